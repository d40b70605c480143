# docker build --target controller -t trainyard/controller:0.1.0 .
# docker build --target worker     -t trainyard/worker:0.1.0 .
# BASE is any Debian 12; for GPUs: --build-arg PRESET=cuda-release.
ARG BASE=debian:12

FROM ${BASE} AS build
WORKDIR /src
COPY .ci .ci
RUN .ci/setup packages torch
COPY CMakeLists.txt CMakePresets.json ./
COPY crds crds
COPY controller controller
COPY worker worker
ARG PRESET=release
RUN cmake --preset ${PRESET} && cmake --build build/${PRESET} && .ci/stage /stage build/${PRESET}

FROM scratch AS controller
COPY --from=build /stage/controller/ /
ENV PATH=/opt/trainyard/bin
USER 65532:65532
ENTRYPOINT ["/opt/trainyard/bin/trainyard-controller"]

FROM scratch AS worker
COPY --from=build /stage/worker/ /
ENV PATH=/opt/trainyard/bin:/bin
USER 65532:65532
ENTRYPOINT ["/opt/trainyard/bin/trainyard-worker"]
CMD ["agent"]
