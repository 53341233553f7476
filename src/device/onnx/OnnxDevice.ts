/**
 * Devices of onnxruntime: programs as ONNX models, run by the library inside `onnxruntime-node` through its C API. Its
 * providers (the CPU, WebGPU) differ in where tensors live and in which operators the writer chooses.
 */

import { Effect, type Scope } from "effect"
import type { Program } from "../../tensor/Program.ts"
import { byteWidth, type Dtype } from "../../tensor/Tensor.ts"
import { Device, type DeviceTensor, type Loaded } from "../Device.ts"
import {
  BadFeed,
  type DeviceError,
  deviceError,
  LibraryMissing,
  LoadFailed,
  OutOfMemory,
  Released,
  ShapeMismatch
} from "../DeviceError.ts"
import { elementCount, type HostTensor, holds, type TensorSpec, type TypedArray } from "../HostTensor.ts"
import type { MicroBatch } from "../microBatch.ts"
import { deviceFailure } from "./failure.ts"
import { onnxNumericClass } from "./numericClass.ts"
import type { OrtTensor } from "./OrtTensor.ts"
import type { OnnxProvider } from "./provider.ts"
import { LibraryAbsent, openRuntime, type Runtime } from "./runtime.ts"
import { type Held, Sessions, type SessionsOptions } from "./Sessions.ts"
import { fallbackText } from "./webgpu/fallbackBound.ts"
import type { Gpu } from "./webgpu/Gpu.ts"

/** What providers differ in. */
export interface Provider {
  readonly name: OnnxProvider
  /** The hardware, as it names itself. */
  readonly adapter: string
  /** A tensor in its memory: with zeros, or elements that are written next. */
  readonly tensor: (name: string, dtype: Dtype, shape: ReadonlyArray<number>, zeros: boolean) => OrtTensor
  /** Its own tensors. */
  readonly isOwn: (tensor: DeviceTensor) => tensor is OrtTensor
  /** The device beside the CPU, where there is one. */
  readonly gpu?: Gpu
  /** How large a micro-batch is best, where it is not the usual one. */
  readonly batch?: MicroBatch
  /** How many nodes of a program may run on the CPU; any number where it is left out. */
  readonly fallbackBound?: number
}

interface OnnxLoaded extends Loaded {
  readonly held: Held
  /** Constants that are fed at each run: on a device, where nothing rearranges them. */
  readonly fed: Readonly<Record<string, OrtTensor>>
  closed: boolean
}

/** The runtime of this process, for as many threads. */
export const openedRuntime = (threads: number): Effect.Effect<Runtime, DeviceError> =>
  Effect.try({
    try: () => openRuntime(threads),
    catch: (error) => {
      if (error instanceof LibraryAbsent) return deviceError(new LibraryMissing({ detail: error.message }))
      throw error
    }
  })

/** A device that computes by one of the runtime's providers. */
export const makeOnnxDevice = (runtime: Runtime, provider: Provider, options: SessionsOptions) => {
  const { gpu } = provider
  const { threads } = options
  const sessions = new Sessions(runtime, gpu, options)
  let runs = 0
  let runMs = 0
  let bytes = 0
  let peakTensorBytes = 0

  const asOwn = (tensor: DeviceTensor): OrtTensor => {
    if (provider.isOwn(tensor)) return tensor
    throw new TypeError(`${tensor.name} is a tensor of another device`)
  }

  const usable = (tensor: DeviceTensor): Effect.Effect<OrtTensor, DeviceError> => {
    const own = asOwn(tensor)
    return own.released ? Effect.fail(deviceError(new Released({ what: `Tensor ${own.name}` }))) : Effect.succeed(own)
  }

  const load = Effect.fn("Device.load")(function* (
    program: Program,
    { constants = {} }: { readonly constants?: Readonly<Record<string, DeviceTensor>> } = {}
  ): Effect.fn.Return<Loaded, DeviceError, Scope.Scope> {
    const held: Record<string, OrtTensor> = {}
    for (const [name, tensor] of Object.entries(constants)) {
      const input = program.inputs.get(name)
      if (input === undefined) {
        const detail = `the constant ${name} is none of its inputs (${[...program.inputs.keys()].join(", ")})`
        return yield* deviceError(new BadFeed({ program: program.name, detail }))
      }
      held[name] = yield* usable(tensor)
    }
    const loaded = yield* Effect.acquireRelease(
      Effect.try({
        try: (): OnnxLoaded => {
          const own = sessions.hold(program, held)
          const fed = gpu === undefined ? {} : held
          for (const tensor of Object.values(fed)) {
            tensor.hold()
            tensor.constantOf++
          }
          const inPlace = [...own.session.written.inPlace.keys()]
          return { _tag: "Loaded", program, loadMs: own.ms, inPlace, held: own, fed, closed: false }
        },
        catch: deviceFailure(program.name, "load")
      }),
      (own) =>
        Effect.sync(() => {
          own.closed = true
          for (const tensor of Object.values(own.fed)) {
            tensor.constantOf--
            tensor.release()
          }
          sessions.giveUp(own.held)
        })
    )
    const { fallbacks } = loaded.held.session
    const bound = provider.fallbackBound ?? Number.POSITIVE_INFINITY
    if (fallbacks.length > bound) {
      const detail = fallbackText(fallbacks, bound)
      return yield* deviceError(new LoadFailed({ program: program.name, node: null, detail }))
    }
    return loaded
  })

  const tensor = Effect.fn("Device.tensor")(function* (
    { name, dtype, shape }: TensorSpec,
    init: TypedArray | "zeros" = "zeros"
  ): Effect.fn.Return<DeviceTensor, DeviceError, Scope.Scope> {
    const size = elementCount(shape) * byteWidth[dtype]
    const made = yield* Effect.acquireRelease(
      Effect.try({
        try: () => provider.tensor(name, dtype, shape, init === "zeros"),
        catch: (error) => {
          if (error instanceof RangeError) return deviceError(new OutOfMemory({ what: `tensor ${name}`, bytes: size }))
          return deviceFailure(`tensor ${name}`, "run")(error)
        }
      }),
      (own) =>
        Effect.sync(() => {
          bytes -= own.byteLength
          own.release()
        })
    )
    bytes += made.byteLength
    peakTensorBytes = Math.max(peakTensorBytes, bytes)
    if (init !== "zeros") yield* fillWith(made, init)
    return made
  })

  const fillWith = (own: OrtTensor, data: TypedArray): Effect.Effect<void, DeviceError> => {
    if (!holds(own.dtype, data) || data.length !== elementCount(own.shape)) {
      const detail = `${data.constructor.name} of ${data.length} elements is no ${own.dtype}[${own.shape.join(", ")}]`
      return Effect.fail(deviceError(new ShapeMismatch({ program: "write", tensor: own.name, detail })))
    }
    return Effect.try({ try: () => own.assign(data), catch: deviceFailure(`tensor ${own.name}`, "run") })
  }

  const held = (own: OrtTensor): DeviceError =>
    deviceError(
      new BadFeed({ program: "write", detail: `${own.name} is a constant of a loaded program and must not change` })
    )

  return Device.of({
    info: {
      provider: provider.name,
      adapter: provider.adapter,
      ...(provider.batch === undefined ? {} : { batch: provider.batch }),
      threads,
      runtime: `onnxruntime ${runtime.ort.version}`,
      get fallbackNodes() {
        return sessions.fallbacks.size
      },
      get fallbacks() {
        return [...sessions.fallbacks.values()]
      },
      numericClass: onnxNumericClass({ threads, dtype: "f32" }, provider.name)
    },
    load,
    tensor,
    write: Effect.fnUntraced(function* (target, data) {
      const own = yield* usable(target)
      if (own.constantOf > 0) return yield* held(own)
      yield* fillWith(own, data)
    }),
    read: (source) =>
      Effect.flatMap(usable(source), (own) =>
        Effect.try({ try: () => own.copy(), catch: deviceFailure(`tensor ${own.name}`, "run") })
      ),
    run: (loaded, feeds, into = {}) =>
      Effect.suspend(() => {
        const own = loaded as OnnxLoaded
        const { name } = own.program
        if (own.closed) return Effect.fail(deviceError(new Released({ what: `Program ${name}` })))
        for (const target in into) {
          const place = asOwn(into[target]!)
          if (place.constantOf > 0) return Effect.fail(held(place))
        }
        try {
          const given = feeds as Readonly<Record<string, HostTensor | OrtTensor>>
          const all = gpu === undefined ? given : { ...given, ...own.fed }
          const result = sessions.fitting(own.held, all).run(all, into as Readonly<Record<string, OrtTensor>>)
          runs++
          runMs += result.runMs
          return Effect.succeed(result.outputs)
        } catch (error) {
          return Effect.fail(deviceFailure(name, "run")(error))
        }
      }),
    stats: Effect.sync(() => {
      const arena = sessions.arena()
      const { loadMs } = sessions
      const tensors =
        gpu === undefined ? { peak: peakTensorBytes, now: bytes } : { peak: gpu.peakBytes, now: gpu.bytes }
      const stats = { runs, runMs, loadMs, peakBytes: tensors.peak + arena.peak, bytes: tensors.now + arena.now }
      return gpu === undefined ? stats : { ...stats, copiedIn: gpu.traffic.toDevice, copiedOut: gpu.traffic.fromDevice }
    })
  })
}
