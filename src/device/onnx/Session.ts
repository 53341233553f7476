/**
 * A loaded model and the bindings (`Binding.ts`) of its latest calls.
 */

import type { Program } from "../../tensor/Program.ts"
import { allocate, pointerArray, stringArray } from "../ffi.ts"
import type { HostTensor } from "../HostTensor.ts"
import { optimizationLevels } from "./api.ts"
import { type Binding, bind, type Feeds, type Into, matches, refresh } from "./Binding.ts"
import { CpuTensor, Packing } from "./CpuTensor.ts"
import { inputName, outputName } from "./names.ts"
import type { OrtTensor } from "./OrtTensor.ts"
import type { Runtime } from "./runtime.ts"
import { type AssignedNode, nodesOnCpu, recordAssignment } from "./webgpu/assignment.ts"
import { appendWebGpu, type Gpu } from "./webgpu/Gpu.ts"
import type { Written } from "./writer.ts"

export interface SessionOptions {
  readonly threads: number
  /** Optimisers that are switched off. */
  readonly disabledOptimizers: ReadonlyArray<string>
  /** Writes the optimised model there: how tests see what was left of a program. */
  readonly optimizedModelFile?: string
  /** Writes a profile of every node, as a Chrome trace, to a file of this prefix when the session ends. */
  readonly profilePrefix?: string
  /** Computes on this device, and what it cannot on the CPU. */
  readonly gpu?: Gpu
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
  /** Constants that are initialisers of the model. */
  readonly #constants: ReadonlyArray<CpuTensor>
  readonly #gpu: Gpu | undefined
  /** Nodes that run on the CPU although another device was asked for; what computes sizes is at home there. */
  readonly fallbacks: ReadonlyArray<AssignedNode>
  readonly #packing: Packing | undefined
  readonly #inputNames: ReturnType<typeof stringArray>
  readonly #outputNames: ReturnType<typeof stringArray>
  #bindings: Array<Binding> = []

  constructor(
    runtime: Runtime,
    program: Program,
    written: Written,
    constants: Readonly<Record<string, OrtTensor>>,
    options: SessionOptions
  ) {
    this.#runtime = runtime
    this.program = program
    this.written = written
    this.#gpu = options.gpu
    this.#constants = written.constants.map((name) => {
      const tensor = constants[name]!
      if (tensor instanceof CpuTensor) return tensor
      throw new TypeError(`${tensor.name} is a tensor of another device`)
    })
    this.#inputNames = stringArray(written.inputs.map(({ name }) => inputName(name)))
    this.#outputNames = stringArray(written.outputs.map(({ name }) => outputName(name)))
    this.#packing = this.#constants.length > 0 ? Packing.of(runtime, this.#constants) : undefined
    try {
      this.#handle = written.outputs.length === 0 ? null : this.#create(options)
    } catch (error) {
      this.#packing?.release(this.#constants)
      throw error
    }
    const onCpu = this.#gpu === undefined || this.#handle === null ? [] : nodesOnCpu(runtime.ort, this.#handle)
    this.fallbacks = onCpu.filter(({ name }) => !written.sizes.has(name))
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
      if (this.#gpu !== undefined) {
        appendWebGpu(this.#runtime, settings, written.onCpu)
        recordAssignment(ort, settings)
      }
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
    const gpu = this.#gpu
    const known = this.#find(feeds, into)
    const binding = known ?? this.#bind(feeds, into)
    for (const slot of binding.inputs) {
      if (!slot.host) continue
      const feed = feeds[slot.port.name]!
      if (!("data" in feed)) continue
      slot.tensor.assign(feed.data)
      if (gpu !== undefined) gpu.traffic.toDevice += slot.tensor.byteLength
    }
    if (gpu !== undefined) refresh(binding)
    const start = process.hrtime.bigint()
    // other sizes leave holes in the arena: it gives them back after the first run of each
    const options = known === undefined ? this.#runtime.shrink : null
    if (this.#handle !== null)
      this.#runtime.ort.run(this.#handle, options, binding.inputArguments, binding.outputArguments)
    const runMs = Number(process.hrtime.bigint() - start) / 1e6
    const outputs: Record<string, HostTensor> = {}
    for (const slot of binding.outputs) {
      if (slot.after === "read") {
        outputs[slot.port.name] = slot.tensor.copy()
        if (gpu !== undefined) gpu.traffic.fromDevice += slot.tensor.byteLength
      } else if (slot.after === "moves") slot.place.assign(slot.tensor.view)
      else if (slot.after === "turns") slot.place.turn()
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
