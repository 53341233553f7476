/** A device of XLA: programs as StableHLO, compiled and run by a hardware vendor's plugin through the PJRT C API. */

import { availableParallelism, cpus, totalmem } from "node:os"
import { join } from "node:path"
import { Effect, Layer, type Scope } from "effect"
import type { Program } from "../../tensor/Program.ts"
import { byteWidth } from "../../tensor/Tensor.ts"
import { Device, type DeviceTensor, type Loaded, paddingOf } from "../Device.ts"
import {
  BadFeed,
  type DeviceError,
  deviceError,
  MeshUnfit,
  OutOfMemory,
  Released,
  ShapeMismatch
} from "../DeviceError.ts"
import { elementCount, type HostTensor, holds, type TensorSpec, type TypedArray } from "../HostTensor.ts"
import { axisSize, type Mesh, meshDevices, meshText } from "../mesh.ts"
import { cardBatch, cardLoopBytes, shareOf, usualBatch } from "../microBatch.ts"
import type { NumericClass } from "../numericClass.ts"
import { acquire } from "./acquire.ts"
import { optimizedProgram } from "./analysis.ts"
import { bucketOf } from "./buckets.ts"
import type { Client } from "./Client.ts"
import { Compiler } from "./Compiler.ts"
import { compileOptions, deterministicFlags, quickFlags } from "./compileOptions.ts"
import type { Executable } from "./Executable.ts"
import { deviceFailure } from "./failure.ts"
import { fasterBy } from "./faster.ts"
import { accountOf } from "./hlo/account.ts"
import { bf16Of } from "./inBf16.ts"
import { inOrder } from "./inOrder.ts"
import { xlaNumericClass } from "./numericClass.ts"
import { inShares, Placing } from "./Placing.ts"
import { digestOf, ProgramEntry } from "./ProgramEntry.ts"
import { PjrtFailure } from "./pjrt.ts"
import { cacheFolder, isGpu, type Plugin, pluginIdentity } from "./plugins.ts"
import { gatherUp, type Laid } from "./Spread.ts"
import { Unshardable } from "./sharding.ts"
import { type Feeds, type Into, type Sizes, Variant } from "./Variant.ts"
import { writeProgram } from "./writer.ts"
import { copyCorner, sameShape, XlaTensor, zerosOf } from "./XlaTensor.ts"

export interface XlaOptions {
  readonly plugin: Plugin
  /** Where compiled programs are kept; null keeps none. Default: a folder of the user's cache. */
  readonly executables?: string | null
  /** What products are computed in (`inBf16`); default f32. */
  readonly dtype?: NumericClass["dtype"]
  /** Compile every program fast instead of well: for tests. Not for results: bits differ. */
  readonly quick?: boolean
  /** On a card: sums in one order at every run; default false. */
  readonly deterministic?: boolean
  /** The devices that share every program; one where it is left out. */
  readonly mesh?: Mesh | undefined
  /** The share of the usual micro-batch that models should take; default 1. */
  readonly batchShare?: number
  /**
   * `DeviceInfo.loopBytes`; default what a card has room for, none after it had too little, and 0 on the CPU, where compiling a loop
   * takes longer.
   */
  readonly loopBytes?: number
}

interface XlaLoaded extends Loaded {
  readonly entry: ProgramEntry
  readonly constants: Readonly<Record<string, XlaTensor>>
  readonly holdsConstants: boolean
  closed: boolean
}

/** The device. Layers are memoised by reference: keep one in a constant. */
const layer = (options: XlaOptions): Layer.Layer<Device, DeviceError> => Layer.effect(Device, make(options))
export const XlaDevice = { layer }

/** Programs that stay ready although nothing holds them: one that comes back, as a policy's do each step, costs nothing. */
const idlePrograms = 64

/** Elements of all intermediate values below which the CPU plugin spends longer on compiling well than the runs win. */
const smallProgram = 4e6

/**
 * Work of the plugin's that cannot be called off: whoever is interrupted waits for it. What it reads and writes, and the client
 * itself, would otherwise be given back under its threads.
 */
const native = <A>(work: () => Promise<A>, failed: (error: unknown) => DeviceError): Effect.Effect<A, DeviceError> =>
  Effect.uninterruptible(Effect.tryPromise({ try: work, catch: failed }))

const elementsOf = ({ nodes }: Program): number =>
  nodes.reduce((sum, { outputs }) => sum + outputs.reduce((n, { shape }) => n + elementCount(shape.map(Number)), 0), 0)

/** Bytes that come of one device's collectives in a run; 0 where the plugin does not show the program. */
const movedBytes = ({ pjrt }: Client, { unloaded }: Executable): number => {
  try {
    const { collectives } = accountOf(optimizedProgram(pjrt, unloaded))
    return Object.values(collectives).reduce((n, bytes) => n + bytes, 0)
  } catch (error) {
    if (error instanceof PjrtFailure) return 0
    throw error
  }
}

const make = Effect.fnUntraced(function* (options: XlaOptions) {
  const { batchShare = 1, deterministic = false, dtype = "f32", executables, mesh, plugin, quick = false } = options
  const client = yield* acquire(plugin, mesh)
  const { pjrt } = client
  const device = client.devices[0]!
  const onCpu = plugin.name === "cpu"
  const adapter = onCpu
    ? `${cpus()[0]?.model.trim() ?? process.arch}, ${availableParallelism()} cores, ${process.platform}-${process.arch}`
    : client.kindOf(device)
  const room = client.memoryOf(device)?.limit ?? 2 ** 33
  const sharing = mesh === undefined ? 1 : axisSize(mesh, "data") * axisSize(mesh, "fsdp")
  const parts = mesh === undefined ? 1 : axisSize(mesh, "fsdp") * axisSize(mesh, "model")
  const services = yield* Effect.context()
  const warn = (note: string) => Effect.runSyncWith(services)(Effect.logWarning(`${plugin.provider}: ${note}`))
  const placing = mesh && new Placing(mesh, (note) => warn(`mesh ${meshText(mesh)} keeps ${note}`))
  const compiler = new Compiler(
    client,
    executables === undefined ? join(cacheFolder(), "executables") : executables,
    [pluginIdentity(plugin), client.platformVersion, adapter].join("\n"),
    warn
  )
  /** Programs by digest, those used last at the end. */
  const entries = new Map<string, ProgramEntry>()
  const fills = { tokens: { computed: 0, wanted: 0 }, cached: { computed: 0, wanted: 0 } }
  let runs = 0
  let runMs = 0
  let loadMs = 0
  let peakBytes = 0
  let collectiveBytes = 0

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const entry of entries.values()) entry.discard()
      entries.clear()
    })
  )

  const asXla = (tensor: DeviceTensor): XlaTensor => {
    if (tensor instanceof XlaTensor) return tensor
    throw new TypeError(`${tensor.name} is a tensor of another device`)
  }
  const usable = (tensor: DeviceTensor): Effect.Effect<XlaTensor, DeviceError> => {
    const own = asXla(tensor)
    return own.released ? Effect.fail(deviceError(new Released({ what: `Tensor ${own.name}` }))) : Effect.succeed(own)
  }

  /** Tells variants apart: sizes, and over a mesh how what is fed and filled lies. */
  const keyOf = (entry: ProgramEntry, sizes: Sizes, feeds: Feeds, into: Into): string =>
    placing === undefined ? entry.key(sizes) : entry.key(sizes) + placing.key(entry.program, feeds, into)

  /** The variant for some sizes, made ready where it is not. */
  const prepare = async (entry: ProgramEntry, sizes: Sizes, feeds: Feeds, into: Into): Promise<Variant> => {
    const start = process.hrtime.bigint()
    const { program, scalars } = entry.static(sizes)
    const layouts = placing?.layouts(entry.program, program, feeds, into)
    const written =
      layouts === undefined
        ? writeProgram(program, undefined, fuse)
        : writeProgram(inShares(program, layouts, keep), layouts, fuse)
    const outputs = written.outputs.map((port) => ({ ...port, placement: layouts?.outputs.get(port.name) }))
    const signature = { arguments: written.inputs.length, outputs, mesh }
    const fast = quick || (plugin.name === "cpu" && elementsOf(program) < smallProgram)
    const partitions = mesh === undefined ? 1 : meshDevices(mesh)
    const ordered = deterministic && isGpu(plugin)
    const flags = { ...(fast ? quickFlags : {}), ...(ordered ? deterministicFlags : {}) }
    const settings = compileOptions({ flags, partitions })
    const executable = await compiler.compile(written, signature, settings)
    const variant = new Variant(client, executable, written, layouts, scalars)
    variant.places = entry.computed(written)
    if (mesh !== undefined) variant.moved = movedBytes(client, executable)
    entry.variants.set(keyOf(entry, sizes, feeds, into), variant)
    loadMs += Number(process.hrtime.bigint() - start) / 1e6
    return variant
  }

  const { fuse, keep } = fasterBy({ attention: plugin.name === "cuda" && dtype === "bf16", mesh })

  const entryOf = (given: Program): ProgramEntry => {
    const computed = dtype === "bf16" ? bf16Of(given) : given
    // the CPU plugin forgets barriers before it orders a program
    const program = isGpu(plugin) ? inOrder(computed) : computed
    const digest = digestOf(program)
    const entry = entries.get(digest) ?? new ProgramEntry(program, placing?.bucket, { keep })
    entries.delete(digest)
    entries.set(digest, entry)
    const idle = [...entries].filter(([, { users }]) => users === 0)
    for (const [key, old] of idle.slice(0, Math.max(0, idle.length - idlePrograms))) {
      if (old === entry) continue
      old.discard()
      entries.delete(key)
    }
    return entry
  }

  const load = Effect.fn("Device.load")(function* (
    program: Program,
    { constants = {} }: { readonly constants?: Readonly<Record<string, DeviceTensor>> } = {}
  ): Effect.fn.Return<Loaded, DeviceError, Scope.Scope> {
    const held: Record<string, XlaTensor> = {}
    for (const [name, tensor] of Object.entries(constants)) {
      if (!program.inputs.has(name)) {
        const detail = `the constant ${name} is none of its inputs (${[...program.inputs.keys()].join(", ")})`
        return yield* deviceError(new BadFeed({ program: program.name, detail }))
      }
      held[name] = yield* usable(tensor)
    }
    const before = loadMs
    const entry = entryOf(program)
    // over a mesh how it lies is known when it first runs
    if (entry.dims.length === 0 && entry.variants.size === 0 && placing === undefined) {
      yield* native(() => prepare(entry, {}, {}, {}), deviceFailure(program.name, "load"))
    }
    const loaded: XlaLoaded = {
      _tag: "Loaded",
      program,
      loadMs: loadMs - before,
      inPlace: [...program.donate.keys()],
      entry,
      constants: held,
      holdsConstants: Object.keys(held).length > 0,
      closed: false
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        entry.users++
        for (const tensor of Object.values(held)) tensor.constantOf++
      }),
      () =>
        Effect.sync(() => {
          loaded.closed = true
          entry.users--
          for (const tensor of Object.values(held)) tensor.constantOf--
        })
    )
    return loaded
  })

  const fits = (own: XlaTensor, data: TypedArray): Effect.Effect<void, DeviceError> => {
    if (holds(own.dtype, data) && data.length === elementCount(own.shape)) return Effect.void
    const detail = `${data.constructor.name} of ${data.length} elements is no ${own.dtype}[${own.shape.join(", ")}]`
    return Effect.fail(deviceError(new ShapeMismatch({ program: "write", tensor: own.name, detail })))
  }

  const unshardable = (error: unknown): DeviceError => {
    if (!(error instanceof Unshardable) || mesh === undefined) throw error
    return deviceError(new MeshUnfit({ mesh: meshText(mesh), detail: error.message }))
  }

  const tensor = Effect.fn("Device.tensor")(function* (
    spec: TensorSpec,
    init: TypedArray | "zeros" = "zeros"
  ): Effect.fn.Return<DeviceTensor, DeviceError, Scope.Scope> {
    const { name, dtype, shape } = spec
    const over = yield* Effect.try({ try: () => placing?.resident(spec), catch: unshardable })
    const size = elementCount(shape) * byteWidth[dtype]
    const limit = client.memoryOf(device)?.limit ?? totalmem()
    if (size > limit) return yield* deviceError(new OutOfMemory({ what: `tensor ${name}`, bytes: size }))
    const made = yield* Effect.acquireRelease(
      Effect.sync(() => new XlaTensor(client, name, dtype, shape, over)),
      (own) => Effect.sync(() => own.release())
    )
    if (init !== "zeros") {
      yield* fits(made, init)
      yield* Effect.try({ try: () => made.assign(init), catch: deviceFailure(`tensor ${name}`, "run") })
    }
    return made
  })

  const heldConstant = (own: XlaTensor): DeviceError =>
    deviceError(
      new BadFeed({ program: "write", detail: `${own.name} is a constant of a loaded program and must not change` })
    )

  /** The elements of buffers, for the host: copied all at once, waited for without blocking. */
  const fetch = async (buffers: ReadonlyArray<Laid>): Promise<ReadonlyArray<TypedArray>> => {
    const copies = buffers.map((buffer) => gatherUp(client, mesh, buffer, zerosOf))
    await pjrt.settleAll(copies.flatMap(({ events }) => events))
    return copies.map(({ finish }) => finish())
  }

  /** The part of a buffer's elements that a tensor of a shape has. */
  const corner = (buffer: Laid, data: TypedArray, shape: ReadonlyArray<number>): HostTensor => {
    const { dtype } = buffer
    if (sameShape(buffer.shape, shape)) return { dtype, shape, data } as HostTensor
    const own = zerosOf(dtype, shape)
    copyCorner(data, buffer.shape, own, shape)
    return { dtype, shape, data: own } as HostTensor
  }

  const run = async (own: XlaLoaded, feeds: Feeds, into: Into): Promise<Readonly<Record<string, HostTensor>>> => {
    const { entry } = own
    const sizes = entry.check(feeds, into)
    const variant = entry.variants.get(keyOf(entry, sizes, feeds, into)) ?? (await prepare(entry, sizes, feeds, into))
    const start = process.hrtime.bigint()
    const { events, fetched, spent } = variant.start(feeds, into, sizes)
    try {
      peakBytes = Math.max(peakBytes, client.bufferBytes + variant.temporary)
      await pjrt.settleAll(events)
      const arrays = await fetch(fetched.map(({ buffer }) => buffer))
      return Object.fromEntries(
        fetched.map(({ buffer, name }, i) => [name, corner(buffer, arrays[i]!, entry.shapeOf(name, sizes))])
      )
    } finally {
      for (const buffer of spent) buffer.destroy()
      runs++
      runMs += Number(process.hrtime.bigint() - start) / 1e6
      collectiveBytes += variant.moved
      const wanted = entry.placesOf(sizes, variant.written)
      for (const kind of ["tokens", "cached"] as const) {
        fills[kind].computed += variant.places[kind]
        fills[kind].wanted += wanted[kind]
      }
    }
  }

  return Device.of({
    info: {
      provider: plugin.provider,
      adapter,
      threads: availableParallelism(),
      runtime: `xla ${plugin.version} (PJRT ${pjrt.version.major}.${pjrt.version.minor}, ${client.platformVersion})`,
      fallbackNodes: 0,
      stepsPerRun: 32,
      zerosByProgram: true,
      batch: shareOf(onCpu ? usualBatch : cardBatch(room, sharing), batchShare),
      loopBytes: options.loopBytes ?? (onCpu || batchShare < 1 ? 0 : cardLoopBytes(room, parts)),
      numericClass: xlaNumericClass({ dtype, deterministic }, plugin.provider),
      ...(mesh === undefined ? {} : { mesh: meshText(mesh) })
    },
    load,
    tensor,
    write: Effect.fnUntraced(function* (target, data) {
      const own = yield* usable(target)
      if (own.constantOf > 0) return yield* heldConstant(own)
      yield* fits(own, data)
      yield* Effect.try({ try: () => own.assign(data), catch: deviceFailure(`tensor ${own.name}`, "run") })
    }),
    read: Effect.fnUntraced(function* (source) {
      const own = yield* usable(source)
      const buffer = own.buffer
      if (buffer === undefined)
        return { dtype: own.dtype, shape: own.shape, data: zerosOf(own.dtype, own.shape) } as HostTensor
      const [data] = yield* native(() => fetch([buffer]), deviceFailure(`tensor ${own.name}`, "run"))
      return corner(buffer, data!, own.shape)
    }),
    run: (loaded, feeds, into = {}) =>
      Effect.suspend(() => {
        const own = loaded as XlaLoaded
        const { name } = own.program
        if (own.closed) return Effect.fail(deviceError(new Released({ what: `Program ${name}` })))
        const places: Record<string, XlaTensor> = {}
        for (const target in into) {
          const place = asXla(into[target]!)
          if (place.constantOf > 0) return Effect.fail(heldConstant(place))
          places[target] = place
        }
        const all = (own.holdsConstants ? { ...own.constants, ...feeds } : feeds) as Feeds
        return native(() => run(own, all, places), deviceFailure(name, "run"))
      }),
    sizeFor: (name, size) => (placing?.bucket ?? bucketOf)(name, size).high,
    stats: Effect.sync(() => ({
      runs,
      runMs,
      loadMs,
      peakBytes: Math.max(peakBytes, client.peakBufferBytes),
      bytes: client.bufferBytes,
      ...compiler.counts,
      ...(mesh === undefined ? {} : { collectiveBytes }),
      tokenElements: { ...fills.tokens },
      cacheElements: { ...fills.cached },
      paddingShare: paddingOf(fills.tokens),
      cachePaddingShare: paddingOf(fills.cached)
    }))
  })
})
