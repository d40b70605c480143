#include "controller/decide/packed_job.h"

#include "controller/decide/cluster.h"
#include "controller/decide/packed.h"

namespace trainyard::decide {
namespace {

/// Calls `visit` with each part that goes into PackedJob::bytes. Who adds a field to Job is told here by the compiler.
void each_part(auto& job, const auto& visit) {
  auto& [key, uid, resource_version, generation, created, deleting, traceparent, spec, status, problems, status_written,
         spec_hash, template_digest, device_needs] = job;
  visit(generation);
  visit(created);
  visit(deleting);
  visit(traceparent);
  visit(spec);
  visit(status);
  visit(problems);
  visit(status_written);
  visit(spec_hash);
  visit(template_digest.text);
}

}  // namespace

PackedJob pack(const Job& job) {
  Packer packer;
  each_part(job, [&packer](const auto& part) { packer.add(part); });
  const auto& workers = job.spec.workers;
  const auto& queue = job.status.queue;
  return {.uid = job.uid,
          .resource_version = job.resource_version,
          .phase = job.status.phase,
          .gpu_resource = workers.gpusPerWorker > 0 ? workers.gpuResourceName : "",
          .start_delay = queue ? queue->startDelaySeconds : std::nullopt,
          .bytes = packer.take()};
}

Job unpack(const ObjectKey& key, const PackedJob& packed) {
  Job out{.key = key, .uid = packed.uid, .resource_version = packed.resource_version};
  Unpacker unpacker(packed.bytes);
  each_part(out, [&unpacker](auto& part) { unpacker.get(part); });
  return out;
}

}  // namespace trainyard::decide
