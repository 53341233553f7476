/**
 * Trains the weights of a model: forward and backward over micro-batches whose gradients add up on the device, then one
 * optimizer step in place. It knows neither what the model is nor what the loss is; policies, encoders and classifiers
 * give it a graph.
 */
import { Effect, Scope } from "effect"
import { FileSystem } from "effect/FileSystem"
import { Device, type DeviceTensor, type Feeds, type Loaded } from "../device/Device.ts"
import type { DeviceError } from "../device/DeviceError.ts"
import { type HostTensor, scalarOf } from "../device/HostTensor.ts"
import type { Loss } from "../objectives/Objective.ts"
import { gradient } from "../tensor/gradient.ts"
import { add, isNan, select } from "../tensor/ops/elementwise.ts"
import { zeros } from "../tensor/ops/leaf.ts"
import { type Program, program } from "../tensor/Program.ts"
import { input, type Tensor } from "../tensor/Tensor.ts"
import { scalar } from "./batching.ts"
import { BadSafetensors, fail, type ModelError, NonFinite } from "./ModelError.ts"
import { applyProgram, corrections, learningRateAt, type OptimizerSettings } from "./optimizer.ts"
import { type ParameterInputs, type ParameterSpec, parameterInputs, residentSpec, type Weights } from "./parameters.ts"
import { open } from "./safetensors/read.ts"
import { write } from "./safetensors/write.ts"

/** What an update did. `logs` has the objective's values by their names. */
export interface Update {
  readonly loss: number
  /** Global gradient norm before clipping. */
  readonly gradNorm: number
  readonly learningRate: number
  /** Optimizer updates done, this one included. */
  readonly updates: number
  readonly logs: Readonly<Record<string, number>>
}

export interface Trainer {
  /** Adds the gradient of one micro-batch; `feeds` are the batch's inputs of the graph. Gives `TrainerGraph.outputs`. */
  readonly accumulate: (
    feeds: Readonly<Record<string, HostTensor>>
  ) => Effect.Effect<Readonly<Record<string, HostTensor>>, ModelError | DeviceError>
  /** One optimizer step on what was accumulated since the last. */
  readonly apply: Effect.Effect<Update, ModelError | DeviceError>
  /** Optimizer updates done. */
  readonly updates: Effect.Effect<number>
  /** Writes what is trained, its moments and the number of updates to one safetensors file; equal states give equal bytes. */
  readonly checkpoint: (file: string) => Effect.Effect<void, ModelError | DeviceError>
  /** Goes back to a checkpoint of this very model. */
  readonly restore: (file: string) => Effect.Effect<void, ModelError | DeviceError>
}

/** A loss, and what else of the forward pass each micro-batch gives back. */
export interface TrainerGraph extends Loss {
  readonly outputs?: Readonly<Record<string, Tensor>>
}

export interface TrainerSpec {
  /** Names the programs. */
  readonly name: string
  /** What is trained. */
  readonly table: ReadonlyArray<ParameterSpec>
  readonly weights: Weights
  /** Parameters that the loss reads too and that stay as they are: they have no derivative, no moments and no place in checkpoints. */
  readonly frozen?: { readonly table: ReadonlyArray<ParameterSpec>; readonly weights: Weights }
  readonly optimizer: OptimizerSettings
  /** The loss over the parameters; its other inputs are what `accumulate` is fed. */
  readonly build: (parameters: ParameterInputs) => TrainerGraph
  /** Runs before the weights change: whoever holds them as constants gives them up. */
  readonly beforeChange: Effect.Effect<void>
}

/** Gradients of the loss, added to `grad:<name>` in place. */
export const backwardProgram = (spec: Pick<TrainerSpec, "name" | "table" | "frozen" | "build">): Program => {
  const parameters = parameterInputs([...spec.table, ...(spec.frozen?.table ?? [])])
  const { logs, loss, outputs: others = {} } = spec.build(parameters)
  const outputs: Record<string, Tensor> = { loss }
  for (const [name, value] of Object.entries(others)) outputs[`out:${name}`] = value
  for (const [name, value] of Object.entries(logs)) outputs[`log:${name}`] = value
  const donate: Record<string, string> = {}
  const trained = spec.table.map(({ name }) => parameters.of(name))
  gradient(loss, trained).forEach((by, i) => {
    const { name, shape } = spec.table[i]!
    const key = `grad:${name}`
    outputs[key] = add(input(key, "f32", shape), by)
    donate[key] = key
  })
  return program(`${spec.name}.accumulate`, { outputs, donate })
}

/** Zeros where the gradients lie, whatever they were: they are read, since only what is read can be written over. */
const clearProgram = ({ name, table }: Pick<TrainerSpec, "name" | "table">): Program => {
  const outputs = Object.fromEntries(
    table.map((own) => {
      const key = `grad:${own.name}`
      const none = zeros(own.shape)
      return [key, select(isNan(input(key, "f32", own.shape)), none, none)]
    })
  )
  const donate = Object.fromEntries(Object.keys(outputs).map((key) => [key, key]))
  return program(`${name}.clear`, { outputs, donate })
}

/** A trainer whose programs and optimizer state live as long as the scope. */
export const makeTrainer = Effect.fn("Trainer.make")(function* (
  spec: TrainerSpec
): Effect.fn.Return<Trainer, DeviceError, Device | FileSystem | Scope.Scope> {
  const device = yield* Device
  const fs = yield* FileSystem
  const scope = yield* Scope.Scope
  const { frozen, name, optimizer, table, weights } = spec
  learningRateAt(optimizer, 0)

  const tensors = Effect.fnUntraced(function* (prefix: string) {
    const made: Record<string, DeviceTensor> = {}
    for (const own of table) {
      const resident = residentSpec(own, prefix)
      made[resident.name] = yield* device.tensor(resident, "zeros")
    }
    return made
  })
  const gradients = yield* tensors("grad:")
  const moments = { ...(yield* tensors("m:")), ...(yield* tensors("v:")) }
  const parameters = Object.fromEntries(weights)
  const read = { ...parameters, ...Object.fromEntries(frozen?.weights ?? []) }

  // Programs are loaded when first needed: few runs have a learning rate of 0.
  const loaded = new Map<string, Loaded>()
  const need = (key: string, make: () => Program) =>
    Effect.suspend(() => {
      const known = loaded.get(key)
      if (known !== undefined) return Effect.succeed(known)
      return device.load(make()).pipe(
        Scope.provide(scope),
        Effect.tap((made) => Effect.sync(() => void loaded.set(key, made)))
      )
    })

  let updates = 0
  let parts = 0
  let sums: Record<string, number> = {}

  const finite = (what: string, value: number) =>
    Number.isFinite(value)
      ? Effect.void
      : Effect.fail(
          fail(new NonFinite({ what: `${what} of ${name}`, value: String(value), where: `update ${updates}` }))
        )

  const clear = Effect.gen(function* () {
    if (device.info.zerosByProgram === true) {
      yield* device.run(yield* need("clear", () => clearProgram(spec)), gradients, gradients)
      return
    }
    for (const tensor of Object.values(gradients)) yield* device.write(tensor, new Float32Array(tensor.byteLength / 4))
  })

  const accumulate: Trainer["accumulate"] = Effect.fn("Trainer.accumulate")(function* (feeds) {
    const backward = yield* need("accumulate", () => backwardProgram(spec))
    if (parts === 0) yield* clear
    const all: Feeds = pick(backward.program, { ...feeds, ...read, ...gradients })
    const outputs = yield* device.run(backward, all, gradients)
    parts++
    const others: Record<string, HostTensor> = {}
    for (const [key, value] of Object.entries(outputs)) {
      if (key.startsWith("out:")) others[key.slice(4)] = value
      else sums[key] = (sums[key] ?? 0) + scalarOf(value)
    }
    yield* finite("the loss", sums["loss"]!)
    return others
  })

  const apply: Trainer["apply"] = Effect.gen(function* () {
    const learningRate = learningRateAt(optimizer, updates)
    const frozen = learningRate === 0
    const step = yield* frozen
      ? need("moments", () => applyProgram(name, table, optimizer, false))
      : need("apply", () => applyProgram(name, table, optimizer, true))
    const { correction1, correction2 } = corrections(optimizer, updates + 1)
    const state = frozen ? moments : { ...parameters, ...moments }
    if (!frozen) yield* spec.beforeChange
    const outputs = yield* device.run(
      step,
      {
        ...parameters,
        ...moments,
        ...gradients,
        learningRate: scalar(learningRate),
        correction1: scalar(correction1),
        correction2: scalar(correction2)
      },
      state
    )
    const gradNorm = scalarOf(outputs["gradNorm"]!)
    yield* finite("the gradient norm", gradNorm)
    const { loss = 0, ...rest } = sums
    const logs = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key.replace("log:", ""), value]))
    updates++
    parts = 0
    sums = {}
    return { loss, gradNorm, learningRate, updates, logs }
  }).pipe(Effect.withSpan("Trainer.apply"))

  const state = { ...parameters, ...moments }
  const provided = Effect.provideService(FileSystem, fs)
  return {
    accumulate,
    apply,
    updates: Effect.sync(() => updates),
    checkpoint: (file) =>
      write(
        file,
        Object.entries(state).map(([key, { shape }]) => ({ name: key, dtype: "F32" as const, shape })),
        (tensor) => Effect.map(device.read(state[tensor.name]!), ({ data }) => data as Float32Array),
        { updates: String(updates) }
      ).pipe(provided),
    restore: (file) =>
      Effect.scoped(
        Effect.gen(function* () {
          const saved = yield* open(file)
          const done = Number(saved.metadata["updates"])
          const wrong = (detail: string, tensor?: string) =>
            fail(new BadSafetensors(tensor === undefined ? { file, detail } : { file, tensor, detail }))
          if (!Number.isInteger(done)) return yield* wrong("is no checkpoint of a trainer")
          yield* spec.beforeChange
          for (const [key, tensor] of Object.entries(state)) {
            const info = saved.tensors.get(key)
            if (info === undefined || info.shape.join() !== tensor.shape.join()) {
              return yield* wrong(`the checkpoint does not hold it with shape [${tensor.shape.join(", ")}]`, key)
            }
            yield* device.write(tensor, yield* saved.float32(info))
          }
          updates = done
          parts = 0
          sums = {}
        })
      ).pipe(provided)
  }
})

/** The feeds that a program has inputs for. */
const pick = (program: Program, feeds: Feeds): Feeds =>
  Object.fromEntries(
    [...program.inputs.keys()].flatMap((name) => (feeds[name] === undefined ? [] : [[name, feeds[name]]]))
  )
