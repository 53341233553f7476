/**
 * A loaded model and its argument blocks. A run call takes C arrays of names and values; they are made once for each
 * set of device tensors and host shapes (a binding) and used again, so that a call with device tensors allocates
 * nothing. Host tensors go through slots of the binding, in aligned memory.
 */

import { evaluateDim } from "../../tensor/Dim.ts"
import { bindDims } from "../../tensor/interpret.ts"
import type { Program } from "../../tensor/Program.ts"
import { allocate, pointerArray, stringArray } from "../ffi.ts"
import { type HostTensor, holds } from "../HostTensor.ts"
import type { Arguments } from "./api.ts"
import { optimizationLevels } from "./api.ts"
import { CpuTensor, Packing } from "./CpuTensor.ts"
import { inputName, outputName } from "./names.ts"
import type { Runtime } from "./runtime.ts"
import { type Port, portText, type Written } from "./writer.ts"

export interface SessionOptions {
  readonly threads: number
  /** Optimisers that are switched off. */
  readonly disabledOptimizers: ReadonlyArray<string>
  /** Writes the optimised model there: how tests see what was left of a program. */
  readonly optimizedModelFile?: string
  /** Writes a profile of every node, as a Chrome trace, to a file of this prefix when the session ends. */
  readonly profilePrefix?: string
}

/** A feed that does not fit; `tensor` is the input's or output's name, or null where one is missing or unknown. */
export class FeedMismatch extends Error {
  readonly tensor: string | null
  constructor(tensor: string | null, message: string) {
    super(message)
    this.tensor = tensor
  }
}

/** A device tensor was used after its scope closed. */
export class ReleasedTensor extends Error {}

interface InputSlot {
  readonly port: Port
  readonly tensor: CpuTensor
  /** Its elements are copied in before each run. */
  readonly host: boolean
}

interface OutputSlot {
  readonly port: Port
  readonly tensor: CpuTensor
  /** Where the elements are copied to after each run: a new host tensor, a device tensor, or nowhere. */
  readonly copyTo: "host" | CpuTensor | undefined
}

interface Binding {
  readonly inputs: ReadonlyArray<InputSlot>
  readonly outputs: ReadonlyArray<OutputSlot>
  readonly feeds: number
  readonly intos: number
  readonly inputArguments: Arguments
  readonly outputArguments: Arguments
  /** Tensors and blocks that live as long as the binding. */
  readonly owned: ReadonlyArray<CpuTensor>
  readonly kept: ReadonlyArray<unknown>
  readonly bytes: number
}

/** Bindings that are kept for use again, and the memory that their slots may take. */
const maxBindings = 64
const maxBindingBytes = 256 * 2 ** 20

const sameShape = (a: ReadonlyArray<number>, b: ReadonlyArray<number>): boolean => {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

const countKeys = (record: object): number => {
  let n = 0
  for (const _ in record) n++
  return n
}

type Feeds = Readonly<Record<string, HostTensor | CpuTensor>>
type Into = Readonly<Record<string, CpuTensor>>

export class Session {
  readonly program: Program
  readonly written: Written
  readonly #runtime: Runtime
  /** Null for a program without outputs, which the runtime refuses. */
  readonly #handle: bigint | null
  readonly #constants: ReadonlyArray<CpuTensor>
  readonly #packing: Packing | undefined
  readonly #inputNames: ReturnType<typeof stringArray>
  readonly #outputNames: ReturnType<typeof stringArray>
  #bindings: Array<Binding> = []

  constructor(
    runtime: Runtime,
    program: Program,
    written: Written,
    constants: Readonly<Record<string, CpuTensor>>,
    options: SessionOptions
  ) {
    this.#runtime = runtime
    this.program = program
    this.written = written
    this.#constants = written.constants.map((name) => constants[name]!)
    this.#inputNames = stringArray(written.inputs.map(({ name }) => inputName(name)))
    this.#outputNames = stringArray(written.outputs.map(({ name }) => outputName(name)))
    this.#packing = this.#constants.length > 0 ? Packing.of(runtime, this.#constants) : undefined
    try {
      this.#handle = written.outputs.length === 0 ? null : this.#create(options)
    } catch (error) {
      this.#packing?.release(this.#constants)
      throw error
    }
    for (const tensor of this.#constants) {
      tensor.hold()
      tensor.constantOf++
    }
  }

  #create(options: SessionOptions): bigint {
    const { written } = this
    const { ort, env, pooledThreads } = this.#runtime
    const settings = ort.createSessionOptions()
    try {
      ort.setGraphOptimizationLevel(settings, optimizationLevels.all)
      ort.addSessionConfigEntry(settings, "session.use_env_allocators", "1")
      if (options.threads === pooledThreads) ort.disablePerSessionThreads(settings)
      else ort.setIntraOpNumThreads(settings, options.threads)
      ort.setInterOpNumThreads(settings, 1)
      const disabled = options.disabledOptimizers.join(";")
      if (disabled) ort.addSessionConfigEntry(settings, "optimization.disable_specified_optimizers", disabled)
      if (options.optimizedModelFile) ort.setOptimizedModelFilePath(settings, options.optimizedModelFile)
      if (options.profilePrefix) ort.enableProfiling(settings, options.profilePrefix)
      if (this.#constants.length > 0) {
        const names = stringArray(written.constants.map(inputName))
        const values = pointerArray(this.#constants.map((tensor) => tensor.value))
        ort.addExternalInitializers(settings, names.pointers.address, values.address, this.#constants.length)
        // named a second time, they may share what is made of them
        for (const [i, name] of written.constants.entries()) {
          ort.addInitializer(settings, inputName(name), this.#constants[i]!.value)
        }
      }
      const model = allocate(written.model.length)
      new Uint8Array(model.buffer, model.byteOffset, model.byteLength).set(written.model)
      const { container } = this.#packing ?? {}
      return container === undefined
        ? ort.createSessionFromArray(env, model.address, model.byteLength, settings)
        : ort.createSessionSharing(env, model.address, model.byteLength, settings, container)
    } finally {
      ort.releaseSessionOptions(settings)
    }
  }

  /** Runs the program. Returns what was not left in `into`, and the milliseconds of the runtime's own call. */
  run(feeds: Feeds, into: Into): { readonly outputs: Readonly<Record<string, HostTensor>>; readonly runMs: number } {
    const known = this.#find(feeds, into)
    const binding = known ?? this.#bind(feeds, into)
    for (const { port, tensor, host } of binding.inputs) {
      if (!host) continue
      const feed = feeds[port.name]!
      if (!("data" in feed)) continue
      tensor.assign(feed.data)
    }
    const start = process.hrtime.bigint()
    // other sizes leave holes in the arena: it gives them back after the first run of each
    const options = known === undefined ? this.#runtime.shrink : null
    if (this.#handle !== null)
      this.#runtime.ort.run(this.#handle, options, binding.inputArguments, binding.outputArguments)
    const runMs = Number(process.hrtime.bigint() - start) / 1e6
    const outputs: Record<string, HostTensor> = {}
    for (const { port, tensor, copyTo } of binding.outputs) {
      if (copyTo === undefined) continue
      if (copyTo === "host") outputs[port.name] = tensor.copy()
      else copyTo.assign(tensor.view)
    }
    return { outputs, runMs }
  }

  /** The most bytes that the arena of all sessions held at once, and holds now. */
  arena(): { readonly peak: number; readonly now: number } {
    if (this.#handle === null) return { peak: 0, now: 0 }
    const { ort, memoryInfo } = this.#runtime
    const allocator = ort.createAllocator(this.#handle, memoryInfo)
    const pairs = ort.allocatorStats(allocator)
    const read = (key: string) => Number(ort.keyValue(pairs, key) ?? 0)
    const stats = { peak: read("MaxInUse"), now: read("InUse") }
    ort.releaseKeyValuePairs(pairs)
    ort.releaseAllocator(allocator)
    return stats
  }

  release(): void {
    if (this.#handle !== null) this.#runtime.ort.releaseSession(this.#handle)
    this.#packing?.release(this.#constants)
    for (const binding of this.#bindings) for (const tensor of binding.owned) tensor.release()
    this.#bindings = []
    for (const tensor of this.#constants) {
      tensor.constantOf--
      tensor.release()
    }
  }

  #find(feeds: Feeds, into: Into): Binding | undefined {
    const bindings = this.#bindings
    for (let i = 0; i < bindings.length; i++) {
      const binding = bindings[i]!
      if (!this.#matches(binding, feeds, into)) continue
      if (i > 0) {
        bindings.splice(i, 1)
        bindings.unshift(binding)
      }
      return binding
    }
    return undefined
  }

  #matches(binding: Binding, feeds: Feeds, into: Into): boolean {
    if (countKeys(feeds) !== binding.feeds || countKeys(into) !== binding.intos) return false
    for (const { port, tensor, host } of binding.inputs) {
      const feed = feeds[port.name]
      if (feed === undefined) return false
      if ("data" in feed) {
        if (!host || feed.dtype !== port.dtype || !sameShape(feed.shape, tensor.shape)) return false
        if (feed.data.length !== tensor.view.length) return false
      } else if (host || feed !== tensor || tensor.released) return false
    }
    for (const { port, tensor, copyTo } of binding.outputs) {
      const place = copyTo === undefined ? tensor : copyTo === "host" ? undefined : copyTo
      if (into[port.name] !== place || place?.released) return false
    }
    return true
  }

  #bind(feeds: Feeds, into: Into): Binding {
    const { inputs, outputs, inPlace } = this.written
    for (const name in feeds) if (!this.program.inputs.has(name)) throw this.#unknown("input", name, inputs)
    for (const name in into) if (!this.program.outputs.has(name)) throw this.#unknown("output", name, outputs)
    const shapes: Record<string, { readonly shape: ReadonlyArray<number> }> = {}
    for (const name of this.program.inputs.keys()) {
      const constant = this.written.constants.indexOf(name)
      const feed = constant >= 0 ? this.#constants[constant]! : feeds[name]
      if (feed !== undefined) shapes[name] = feed
    }
    const dims = this.#dims(shapes)
    const owned: Array<CpuTensor> = []
    const own = (port: Port, shape: ReadonlyArray<number>): CpuTensor => {
      const tensor = new CpuTensor(this.#runtime, port.name, port.dtype, shape)
      owned.push(tensor)
      return tensor
    }
    for (const given of [...Object.values(feeds), ...Object.values(into)]) {
      if ("released" in given && given.released) throw new ReleasedTensor(given.name)
    }
    const inputSlots = inputs.map((port): InputSlot => {
      const feed = feeds[port.name]!
      if (feed.dtype !== port.dtype) throw new FeedMismatch(port.name, `is ${portText(port)}, not ${feed.dtype}`)
      if (!("data" in feed)) return { port, tensor: feed, host: false }
      const tensor = own(port, feed.shape)
      if (!holds(port.dtype, feed.data) || feed.data.length !== tensor.view.length) {
        const given = `${feed.data.constructor.name} of ${feed.data.length} elements`
        throw new FeedMismatch(port.name, `its ${given} is no ${feed.dtype}[${feed.shape.join(", ")}]`)
      }
      return { port, tensor, host: true }
    })
    const outputSlots = outputs.map((port): OutputSlot => {
      const shape = port.shape.map((dim) => evaluateDim(dim, dims))
      const place = into[port.name]
      if (place === undefined) return { port, tensor: own(port, shape), copyTo: "host" }
      if (place.dtype !== port.dtype || !sameShape(place.shape, shape)) {
        const given = `${place.dtype}[${place.shape.join(", ")}]`
        throw new FeedMismatch(port.name, `is ${portText(port)}, here [${shape.join(", ")}]; ${place.name} is ${given}`)
      }
      const readBy = inputSlots.filter(({ tensor }) => tensor === place)
      const direct = readBy.length === 0 || (readBy.length === 1 && inPlace.get(port.name) === readBy[0]!.port.name)
      return direct ? { port, tensor: place, copyTo: undefined } : { port, tensor: own(port, shape), copyTo: place }
    })
    const values = (slots: ReadonlyArray<InputSlot | OutputSlot>) =>
      pointerArray(slots.map(({ tensor }) => tensor.value))
    const [inputValues, outputValues] = [values(inputSlots), values(outputSlots)]
    const binding: Binding = {
      inputs: inputSlots,
      outputs: outputSlots,
      feeds: countKeys(feeds),
      intos: countKeys(into),
      inputArguments: { names: this.#inputNames.pointers.address, values: inputValues.address, count: inputs.length },
      outputArguments: {
        names: this.#outputNames.pointers.address,
        values: outputValues.address,
        count: outputs.length
      },
      owned,
      kept: [inputValues, outputValues],
      bytes: owned.reduce((sum, tensor) => sum + tensor.byteLength, 0)
    }
    this.#bindings.unshift(binding)
    this.#evict()
    return binding
  }

  /** Gives up bindings that were not used for longest; never the newest. */
  #evict(): void {
    let bytes = 0
    const kept = this.#bindings.filter(({ bytes: own }, i) => {
      bytes += own
      return i === 0 || (i < maxBindings && bytes <= maxBindingBytes)
    })
    for (const binding of this.#bindings) {
      if (!kept.includes(binding)) for (const tensor of binding.owned) tensor.release()
    }
    this.#bindings = kept
  }

  #dims(shapes: Readonly<Record<string, { readonly shape: ReadonlyArray<number> }>>) {
    try {
      return bindDims(this.program, shapes)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      const [, name = null] = /^input "([^"]*)"/.exec(error.message) ?? []
      throw new FeedMismatch(name, error.message)
    }
  }

  #unknown(what: string, name: string, ports: ReadonlyArray<Port>): FeedMismatch {
    return new FeedMismatch(null, `there is no ${what} ${name}; it has ${ports.map(portText).join(", ") || "none"}`)
  }
}
