/**
 * The WebGPU device of this process: one adapter, opened by the runtime's own provider, and the allocator of its memory.
 * An allocator is had from a session, so a session of one node stays open for as long as the process lives.
 */

import { neg } from "../../../tensor/ops/elementwise.ts"
import { program } from "../../../tensor/Program.ts"
import { input } from "../../../tensor/Tensor.ts"
import { allocate, stringArray } from "../../ffi.ts"
import { defaultMemory, deviceAllocator, OrtFailure } from "../api.ts"
import type { Runtime } from "../runtime.ts"
import { writeProgram } from "../writer.ts"
import { type Adapter, vulkanAdapter } from "./vulkan.ts"

export interface Gpu {
  readonly runtime: Runtime
  readonly adapter: Adapter
  readonly allocator: bigint
  /** Bytes of tensors, second buffers included: now and at most. */
  bytes: number
  peakBytes: number
  /** Bytes that `assign` and `copy` of tensors, host feeds and host outputs moved. */
  readonly traffic: { toDevice: number; fromDevice: number }
}

/** There is no adapter; the message says why. */
export class AdapterAbsent extends Error {}

/**
 * The provider's options. Validation is on: without it a dispatch that WebGPU refuses, or an error of the device, would
 * leave old elements in the outputs and say nothing.
 */
const options: Readonly<Record<string, string>> = { validationMode: "basic" }

/**
 * Adds the provider to a session's options; `onCpu` are nodes that it must leave to the CPU. Throws OrtFailure where there is
 * no adapter.
 */
export const appendWebGpu = ({ ort }: Runtime, settings: bigint, onCpu: ReadonlyArray<string> = []): void => {
  const all = onCpu.length === 0 ? options : { ...options, forceCpuNodeNames: onCpu.join("\n") }
  const [keys, values] = [stringArray(Object.keys(all)), stringArray(Object.values(all))]
  ort.appendProvider(settings, "WebGPU", keys.pointers.address, values.pointers.address, Object.keys(all).length)
}

let current: Gpu | undefined

/** The process's WebGPU device. Throws AdapterAbsent. */
export const openGpu = (runtime: Runtime): Gpu => {
  if (current !== undefined) return current
  const { ort, env } = runtime
  // before the runtime looks for an adapter: it finds the loader by its name
  const adapter = vulkanAdapter()
  const settings = ort.createSessionOptions()
  try {
    try {
      appendWebGpu(runtime, settings)
    } catch (error) {
      if (error instanceof OrtFailure) throw new AdapterAbsent(adapterDetail(error.message))
      throw error
    }
    const { model } = writeProgram(program("anchor", { outputs: { y: neg(input("x", "f32", ["n"])) } }), { threads: 1 })
    const bytes = allocate(model.length)
    new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength).set(model)
    const session = ort.createSessionFromArray(env, bytes.address, bytes.byteLength, settings)
    const memory = ort.createMemoryInfo("WebGPU_Buffer", deviceAllocator, 0, defaultMemory)
    const allocator = ort.createAllocator(session, memory)
    current = {
      runtime,
      adapter: adapter ?? { name: `${process.platform}'s default adapter`, software: false },
      allocator,
      bytes: 0,
      peakBytes: 0,
      traffic: { toDevice: 0, fromDevice: 0 }
    }
    return current
  } finally {
    ort.releaseSessionOptions(settings)
  }
}

/** What the library says of a missing adapter, without its own source lines. */
const adapterDetail = (message: string): string => {
  const [, detail] = /(Failed to get a WebGPU [^\n]*)/.exec(message) ?? []
  return detail ?? message.trim()
}
