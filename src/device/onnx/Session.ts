/**
 * A loaded model and the bindings (`Binding.ts`) of its latest calls.
 */

import type { Program } from "../../tensor/Program.ts"
import { allocate, pointerArray, stringArray } from "../ffi.ts"
import type { HostTensor } from "../HostTensor.ts"
import { optimizationLevels } from "./api.ts"
import { type Binding, bind, type Feeds, type Into, matches } from "./Binding.ts"
import { type CpuTensor, Packing } from "./CpuTensor.ts"
import { inputName, outputName } from "./names.ts"
import type { Runtime } from "./runtime.ts"
import type { Written } from "./writer.ts"

export interface SessionOptions {
  readonly threads: number
  /** Optimisers that are switched off. */
  readonly disabledOptimizers: ReadonlyArray<string>
  /** Writes the optimised model there: how tests see what was left of a program. */
  readonly optimizedModelFile?: string
  /** Writes a profile of every node, as a Chrome trace, to a file of this prefix when the session ends. */
  readonly profilePrefix?: string
}

/** Bindings that are kept for use again, and the memory that their slots may take. */
const maxBindings = 64
const maxBindingBytes = 256 * 2 ** 20

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
      if (!matches(binding, feeds, into)) continue
      if (i > 0) {
        bindings.splice(i, 1)
        bindings.unshift(binding)
      }
      return binding
    }
    return undefined
  }

  #bind(feeds: Feeds, into: Into): Binding {
    const binding = bind(
      {
        runtime: this.#runtime,
        program: this.program,
        written: this.written,
        constants: this.#constants,
        inputNames: this.#inputNames,
        outputNames: this.#outputNames
      },
      feeds,
      into
    )
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
}
