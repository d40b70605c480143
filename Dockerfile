# docker build --target controller -t REGISTRY/controller:0.1.0 .
# docker build --target worker     -t REGISTRY/worker:0.1.0 .
# For GPUs: -t REGISTRY/worker-cuda:0.1.0 --build-arg PRESET=cuda-release. JOBS: compilers at a time, of up to 2 GB each.
# BASE is any Debian 12. It has no digest, so that a build takes Debian's security updates; the images hold only copied files.
ARG BASE=debian:12

FROM --platform=linux/amd64 ${BASE} AS build
WORKDIR /src
COPY .ci/setup .ci/prune .ci/packages .ci/torch.lock .ci/
# LibTorch (4.7 GB) and compiled files stay in the builder's cache, out of the layers.
RUN --mount=type=cache,id=trainyard-tools,target=/root/.cache/trainyard .ci/setup packages torch image
COPY .ci/stage .ci/
COPY CMakeLists.txt CMakePresets.json ./
COPY crds crds
COPY controller controller
COPY worker worker
ARG PRESET=release
ARG JOBS
ENV LANG=C.UTF-8
RUN --mount=type=cache,id=trainyard-tools,target=/root/.cache/trainyard \
    --mount=type=cache,id=trainyard-ccache,target=/root/.cache/ccache \
    .ci/setup torch && cmake --preset ${PRESET} && cmake --build build/${PRESET} ${JOBS:+-j ${JOBS}} && \
    .ci/stage /stage build/${PRESET} && rm -rf build

FROM scratch AS controller
COPY --from=build /stage/controller/ /
ENV PATH=/opt/trainyard/bin
USER 65532:65532
ENTRYPOINT ["/opt/trainyard/bin/trainyard-controller"]

FROM scratch AS worker
COPY --from=build /stage/worker/ /
# The last one is for NVIDIA's container runtime.
ENV PATH=/opt/trainyard/bin:/bin NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 65532:65532
ENTRYPOINT ["/opt/trainyard/bin/trainyard-worker"]
CMD ["agent"]
