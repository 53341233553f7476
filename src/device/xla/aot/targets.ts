/**
 * Machines that programs are compiled for without them, as XLA describes a GPU (stream_executor's GpuTargetConfigProto,
 * in the text form of protocol buffers). Numbers are those of the data sheet and of what a card reports to XLA.
 */

export interface Target {
  readonly name: string
  /** GpuTargetConfigProto as text. */
  readonly config: string
}

type Fields = { readonly [name: string]: string | number | Fields }

const textProto = (fields: Fields, depth = 0): string =>
  Object.entries(fields)
    .map(([name, value]) => {
      const indent = "  ".repeat(depth)
      if (typeof value === "object") return `${indent}${name} {\n${textProto(value, depth + 1)}${indent}}\n`
      return `${indent}${name}: ${typeof value === "string" ? JSON.stringify(value) : value}\n`
    })
    .join("")

/** Bytes. */
export const h100Memory = 84_942_979_072

/** NVIDIA H100 SXM5 with 80 GB: 132 multiprocessors of compute capability 9.0, HBM3 at 3.35 TB/s. */
export const h100: Target = {
  name: "H100",
  config: textProto({
    gpu_device_info: {
      threads_per_block_limit: 1024,
      threads_per_warp: 32,
      shared_memory_per_block: 48 * 1024,
      shared_memory_per_core: 228 * 1024,
      shared_memory_per_block_optin: 227 * 1024,
      threads_per_core_limit: 2048,
      core_count: 132,
      fpus_per_core: 128,
      block_dim_limit_x: 2 ** 31 - 1,
      block_dim_limit_y: 65_535,
      block_dim_limit_z: 65_535,
      memory_bandwidth: 3_352_320_000_000,
      l2_cache_size: 50 * 1024 * 1024,
      clock_rate_ghz: 1.98,
      device_memory_size: h100Memory,
      registers_per_core_limit: 65_536,
      registers_per_block_limit: 65_536,
      cuda_compute_capability: { major: 9 }
    },
    platform_name: "CUDA",
    dnn_version_info: { major: 9, minor: 10, patch: 0 },
    device_description_str: "NVIDIA H100 80GB HBM3"
  })
}
