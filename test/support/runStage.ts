/**
 * Runs one stage without pipeline, planner or worker: parameters as in YAML (defaults resolved, unknown keys refused),
 * inputs as folders, outputs in a fresh folder, a `Task` in memory, the device of tests and real files.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Exit, Layer, Schema, type Scope } from "effect"
import type { FileSystem } from "effect/FileSystem"
import type { AnyKind, Kind } from "../../src/artifact/Kind.ts"
import type { DatasetReader } from "../../src/artifact/kinds.ts"
import type { Device } from "../../src/device/Device.ts"
import type { Stage } from "../../src/dsl/Stage.ts"
import { Task } from "../../src/dsl/Task.ts"
import { type MemoryTaskOptions, memoryTask, type Said } from "./memoryTask.ts"
import { testDevice } from "./testDevice.ts"

type Kinds = Readonly<Record<string, AnyKind>>

export interface StageRun<P, I extends Kinds> extends Omit<MemoryTaskOptions, "stage"> {
  /** As in YAML; a key that the stage does not know fails. */
  readonly params?: unknown
  /** Decoded parameters, in place of `params`. */
  readonly decoded?: NoInfer<P>
  /** Folders of artifacts, by input. */
  readonly inputs?: { readonly [N in keyof I]?: string | undefined }
  readonly seed?: number
}

export interface StageResult<O extends Kinds, E> {
  readonly exit: Exit.Exit<void, E>
  readonly said: Said
  /** Folders of the outputs. */
  readonly out: { readonly [N in keyof O]: string }
}

/** What a worker gives a stage: a device, files, a scope. */
type Services = Device | FileSystem | Scope.Scope | Task

const decode = <P>(schema: Schema.Codec<P, unknown>, params: unknown) =>
  Effect.orDie(Schema.decodeUnknownEffect(schema, { onExcessProperty: "error", errors: "all" })(params))

const services = Layer.mergeAll(testDevice, NodeServices.layer)

/** Runs a stage and says how it ended; `dir` is an empty folder of the test. */
export const attemptStage = <const Name extends string, P, I extends Kinds, O extends Kinds, E, R extends Services>(
  stage: Stage<Name, P, I, O, E, R>,
  { decoded, inputs = {}, params = {}, seed = 0, ...options }: StageRun<P, I>
): Effect.Effect<StageResult<O, E>> =>
  Effect.gen(function* () {
    const folders = Object.keys(stage.outputs).map((name) => [name, join(options.dir, "out", name)] as const)
    for (const [, dir] of folders) mkdirSync(dir, { recursive: true })
    const reading = Object.entries<AnyKind>(stage.inputs).map(([name, kind]) => {
      const dir = inputs[name]
      return [name, dir === undefined ? undefined : kind.read(dir)]
    })
    const context = {
      params: decoded ?? (yield* decode(stage.params, params)),
      inputs: Object.fromEntries(reading),
      outputs: Object.fromEntries(folders.map(([name, dir]) => [name, stage.outputs[name]!.write(dir)])),
      seed
    }
    const { said, task } = memoryTask({ ...options, stage: stage.name })
    const run = stage.run(context as never) as Effect.Effect<void, E, Services>
    const exit = yield* run.pipe(
      Effect.provideService(Task, task),
      Effect.scoped,
      Effect.provide(services),
      Effect.exit
    )
    return { exit: exit as Exit.Exit<void, E>, said, out: Object.fromEntries(folders) as StageResult<O, E>["out"] }
  })

/** Runs a stage that is to succeed; the test fails with its error where it does not. */
export const runStage = <const Name extends string, P, I extends Kinds, O extends Kinds, E, R extends Services>(
  stage: Stage<Name, P, I, O, E, R>,
  options: StageRun<P, I>
): Effect.Effect<Omit<StageResult<O, E>, "exit">> =>
  Effect.flatMap(attemptStage(stage, options), ({ exit, ...rest }) =>
    Exit.isSuccess(exit) ? Effect.succeed(rest) : Effect.die(Cause.squash(exit.cause))
  )

/** Runs a stage that is to fail; gives its error. */
export const failStage = <const Name extends string, P, I extends Kinds, O extends Kinds, E, R extends Services>(
  stage: Stage<Name, P, I, O, E, R>,
  options: StageRun<P, I>
): Effect.Effect<E> =>
  Effect.flatMap(attemptStage(stage, options), ({ exit }) => {
    if (Exit.isSuccess(exit)) return Effect.die(new Error(`stage ${stage.name} succeeded; it was to fail`))
    const failed = exit.cause.reasons.find(Cause.isFailReason)
    return failed === undefined ? Effect.die(Cause.squash(exit.cause)) : Effect.succeed(failed.error)
  })

/** All rows of a data set's folder. */
export const rowsOf = <Row>(
  kind: Kind<string, DatasetReader<Row>, unknown>,
  dir: string
): Effect.Effect<ReadonlyArray<Row>> => Effect.orDie(kind.read(dir).rows)
