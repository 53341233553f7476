/** The CPU device: programs as ONNX models, run by the library inside `onnxruntime-node` through its C API. */

import { createHash } from "node:crypto"
import { cpus } from "node:os"
import { join } from "node:path"
import { Effect, Layer, type Scope } from "effect"
import type { Program } from "../../tensor/Program.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import { Device, type DeviceTensor, type Loaded } from "../Device.ts"
import {
  BadFeed,
  type DeviceError,
  deviceError,
  LibraryMissing,
  OutOfMemory,
  Released,
  ShapeMismatch
} from "../DeviceError.ts"
import { elementCount, type HostTensor, holds, type TensorSpec, type TypedArray } from "../HostTensor.ts"
import { CpuTensor } from "./CpuTensor.ts"
import { deviceFailure } from "./failure.ts"
import { disabledOptimizers, onnxNumericClass } from "./numericClass.ts"
import { LibraryAbsent, openRuntime, type Runtime } from "./runtime.ts"
import { Session } from "./Session.ts"
import { type Written, writeProgram } from "./writer.ts"

export interface OnnxCpuOptions {
  /** Threads of one operator; part of the numeric class. */
  readonly threads: number
  /** For a look inside: files named after the program, in this folder. */
  readonly inspect?: { readonly folder: string; readonly profile?: boolean; readonly optimizedModel?: boolean }
}

interface CpuLoaded extends Loaded {
  readonly session: Session
  closed: boolean
}

interface Shared {
  readonly session: Session
  users: number
  readonly key: string
}

/** The device. Layers are memoised by reference: keep one in a constant. */
const layer = (options: OnnxCpuOptions): Layer.Layer<Device, DeviceError> => Layer.effect(Device, make(options))
export const OnnxCpu = { layer }

const open = (threads: number): Effect.Effect<Runtime, DeviceError> =>
  Effect.try({
    try: () => openRuntime(threads),
    catch: (error) => {
      if (error instanceof LibraryAbsent) return deviceError(new LibraryMissing({ detail: error.message }))
      throw error
    }
  })

const make = Effect.fnUntraced(function* ({ inspect, threads }: OnnxCpuOptions) {
  const runtime = yield* open(threads)
  const numericClass = onnxNumericClass({ threads, dtype: "f32" }, "cpu")
  const sessions = new Map<string, Shared>()
  const writtenOf = new WeakMap<Program, Map<string, { readonly written: Written; readonly digest: string }>>()
  const tensorIds = new WeakMap<DeviceTensor, number>()
  let nextTensor = 0
  let runs = 0
  let runMs = 0
  let loadMs = 0
  let bytes = 0
  let peakTensorBytes = 0
  let arena = { peak: 0, now: 0 }

  const asCpu = (tensor: DeviceTensor): CpuTensor => {
    if (tensor instanceof CpuTensor) return tensor
    throw new TypeError(`${tensor.name} is a tensor of another device`)
  }

  const usable = (tensor: DeviceTensor): Effect.Effect<CpuTensor, DeviceError> => {
    const own = asCpu(tensor)
    return own.released ? Effect.fail(deviceError(new Released({ what: `Tensor ${own.name}` }))) : Effect.succeed(own)
  }

  const write = (program: Program, constants: Readonly<Record<string, CpuTensor>>) => {
    const shapes = Object.fromEntries(Object.entries(constants).map(([name, { shape }]) => [name, shape]))
    const key = JSON.stringify(shapes)
    const known = writtenOf.get(program)?.get(key)
    if (known) return known
    const written = writeProgram(program, { threads, constants: shapes })
    const made = { written, digest: createHash("sha256").update(written.model).digest("hex") }
    const all = writtenOf.get(program) ?? new Map()
    writtenOf.set(program, all.set(key, made))
    return made
  }

  const acquire = (program: Program, constants: Readonly<Record<string, CpuTensor>>): Shared & { ms: number } => {
    const start = process.hrtime.bigint()
    const { written, digest } = write(program, constants)
    const ids = written.constants.map((name) => {
      const tensor = constants[name]!
      if (!tensorIds.has(tensor)) tensorIds.set(tensor, nextTensor++)
      return tensorIds.get(tensor)
    })
    const key = `${digest}:${ids}`
    const known = sessions.get(key)
    if (known) {
      known.users++
      return { ...known, ms: 0 }
    }
    const session = new Session(runtime, program, written, constants, {
      threads,
      disabledOptimizers,
      ...(inspect?.profile ? { profilePrefix: join(inspect.folder, program.name) } : {}),
      ...(inspect?.optimizedModel ? { optimizedModelFile: join(inspect.folder, `${program.name}.onnx`) } : {})
    })
    const shared: Shared = { session, users: 1, key }
    sessions.set(key, shared)
    const ms = Number(process.hrtime.bigint() - start) / 1e6
    loadMs += ms
    return { ...shared, ms }
  }

  const releaseSession = (key: string) => {
    const shared = sessions.get(key)!
    if (--shared.users > 0) return
    arena = shared.session.arena()
    sessions.delete(key)
    shared.session.release()
  }

  const load = Effect.fn("Device.load")(function* (
    program: Program,
    { constants = {} }: { readonly constants?: Readonly<Record<string, DeviceTensor>> } = {}
  ): Effect.fn.Return<Loaded, DeviceError, Scope.Scope> {
    const held: Record<string, CpuTensor> = {}
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
        try: (): CpuLoaded & { key: string } => {
          const { session, key, ms } = acquire(program, held)
          const inPlace = [...session.written.inPlace.keys()]
          return { _tag: "Loaded", program, loadMs: ms, inPlace, session, closed: false, key }
        },
        catch: deviceFailure(program.name, "load")
      }),
      (own) =>
        Effect.sync(() => {
          own.closed = true
          releaseSession(own.key)
        })
    )
    return loaded
  })

  const tensor = Effect.fn("Device.tensor")(function* (
    { name, dtype, shape }: TensorSpec,
    init: TypedArray | "zeros" = "zeros"
  ): Effect.fn.Return<DeviceTensor, DeviceError, Scope.Scope> {
    const size = elementCount(shape) * byteWidth[dtype]
    const made = yield* Effect.acquireRelease(
      Effect.try({
        try: () => new CpuTensor(runtime, name, dtype, shape),
        catch: (error) => {
          if (error instanceof RangeError) return deviceError(new OutOfMemory({ what: `tensor ${name}`, bytes: size }))
          throw error
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

  const fillWith = (own: CpuTensor, data: TypedArray): Effect.Effect<void, DeviceError> => {
    if (!holds(own.dtype, data) || data.length !== own.view.length) {
      const detail = `${data.constructor.name} of ${data.length} elements is no ${own.dtype}[${own.shape.join(", ")}]`
      return Effect.fail(deviceError(new ShapeMismatch({ program: "write", tensor: own.name, detail })))
    }
    return Effect.sync(() => own.assign(data))
  }

  const held = (own: CpuTensor): DeviceError =>
    deviceError(
      new BadFeed({ program: "write", detail: `${own.name} is a constant of a loaded program and must not change` })
    )

  return Device.of({
    info: {
      provider: "cpu",
      adapter: `${cpus()[0]?.model.trim() ?? process.arch}, ${process.platform}-${process.arch}`,
      threads,
      runtime: `onnxruntime ${runtime.ort.version}`,
      fallbackNodes: 0,
      numericClass
    },
    load,
    tensor,
    write: Effect.fnUntraced(function* (target, data) {
      const own = yield* usable(target)
      if (own.constantOf > 0) return yield* held(own)
      yield* fillWith(own, data)
    }),
    read: (source) => Effect.map(usable(source), (own) => own.copy()),
    run: (loaded, feeds, into = {}) =>
      Effect.suspend(() => {
        const own = loaded as CpuLoaded
        const { name } = own.program
        if (own.closed) return Effect.fail(deviceError(new Released({ what: `Program ${name}` })))
        for (const target in into) {
          const place = asCpu(into[target]!)
          if (place.constantOf > 0) return Effect.fail(held(place))
        }
        try {
          const result = own.session.run(
            feeds as Readonly<Record<string, HostTensor | CpuTensor>>,
            into as Readonly<Record<string, CpuTensor>>
          )
          runs++
          runMs += result.runMs
          return Effect.succeed(result.outputs)
        } catch (error) {
          return Effect.fail(deviceFailure(name, "run")(error))
        }
      }),
    stats: Effect.sync(() => {
      const [any] = sessions.values()
      if (any) arena = any.session.arena()
      return { runs, runMs, loadMs, peakBytes: peakTensorBytes + arena.peak, bytes: bytes + arena.now }
    })
  })
})
