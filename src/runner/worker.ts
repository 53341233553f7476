/**
 * The worker process: one attempt at one task. `node worker.ts <attempt folder> <supervisor's process id>`.
 *
 * It finds the stage again (by building its pipeline, which runs nothing), gives it `Task` and, if it asks for one,
 * `Device`, runs it, hashes what it wrote and says so in the journal's last line. Publishing is the supervisor's.
 */
import { existsSync, readFileSync, writeSync } from "node:fs"
import { mkdir, rm } from "node:fs/promises"
import { basename, dirname, join } from "node:path"
import { pathToFileURL } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Exit, Predicate, Schema } from "effect"
import { errnoOf, fileFailure } from "../artifact/FileFailure.ts"
import { hashFolder, identify } from "../artifact/folder.ts"
import type { AnyKind } from "../artifact/Kind.ts"
import { reservedName } from "../artifact/store.ts"
import { parseMesh } from "../device/mesh.ts"
import { type AnyPipeline, build } from "../dsl/Pipeline.ts"
import type { AnyStage } from "../dsl/Stage.ts"
import { Task } from "../dsl/Task.ts"
import { openJournal } from "./journal.ts"
import { type LiveTask, liveTask } from "./liveTask.ts"
import { sameCode } from "./sameCode.ts"
import { decodeTaskFile, deviceLostTag, outOfMemoryTag, type TaskFile, WorkerExit } from "./taskFile.ts"
import { guard } from "./watchdog.ts"
import { withDevice } from "./withDevice.ts"

/** The pipe that the supervisor listens on for what no file may tell any more. */
const lastWordsFd = 3

export class StageNotFound extends Schema.TaggedError<StageNotFound>()("StageNotFound", {
  module: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.module}: ${this.detail}; the code changed under a running experiment: run it again`
  }
}

const isPipeline = (value: unknown): value is AnyPipeline => Predicate.isTagged(value, "Pipeline")
const findStage = async ({ source, stage: name }: TaskFile): Promise<AnyStage> => {
  const missing = (detail: string): StageNotFound => new StageNotFound({ module: source.pipeline, detail })
  const loaded: { readonly default?: unknown } = await import(pathToFileURL(source.pipeline).href)
  const pipeline = loaded.default
  if (!isPipeline(pipeline)) throw missing("its default export is no pipeline")
  const params = Schema.decodeSync(pipeline.params)(source.params)
  const stage = build(pipeline, params)[source.index]?.stage
  if (stage?.name !== name) throw missing(`its task ${source.index} is ${stage?.name ?? "not there"}, not ${name}`)
  return stage
}

type Outputs = Readonly<Record<string, { readonly kind: string; readonly sha256: string; readonly bytes: number }>>

/** Runs the stage and describes its outputs. */
const attempt = (dir: string, asked: TaskFile, live: LiveTask) =>
  Effect.gen(function* () {
    const warehouse = dirname(dirname(dir))
    const stage = yield* Effect.promise(() => findStage(asked))
    yield* sameCode(warehouse, stage, asked)
    const params = yield* Schema.decodeEffect(stage.params)(asked.params)
    const inputs = Object.entries(stage.inputs).map(([name, kind]: [string, AnyKind]) => {
      const sha256 = asked.inputs[name]
      return [name, sha256 === undefined ? undefined : kind.read(join(warehouse, "artifacts", sha256))]
    })
    const folders = Object.keys(stage.outputs).map((name) => [name, join(dir, "out", name)] as const)
    for (const [, out] of folders) yield* Effect.promise(() => mkdir(out, { recursive: true }))
    const outputs = folders.map(([name, out]) => [name, stage.outputs[name]?.write(out)])
    const context = {
      params,
      inputs: Object.fromEntries(inputs),
      outputs: Object.fromEntries(outputs),
      seed: asked.seed ?? 0
    }
    const run = stage.run(context as never)
    const provided = stage.device
      ? withDevice(
          run,
          asked.class,
          { mesh: parseMesh(undefined, asked.mesh ?? "data=1"), batchShare: asked.batchShare },
          live.event
        )
      : run
    yield* provided.pipe(Effect.provideService(Task, live.task), Effect.provide(NodeServices.layer)) as Effect.Effect<
      void,
      unknown
    >
    return yield* Effect.promise(() => describe(folders, stage))
  })

const describe = async (folders: ReadonlyArray<readonly [string, string]>, stage: AnyStage): Promise<Outputs> => {
  const outputs: Record<string, Outputs[string]> = {}
  for (const [name, out] of folders) {
    if (existsSync(join(out, "manifest.json"))) throw new Error(`output ${name}: ${reservedName}`)
    const kind = stage.outputs[name]?.name ?? ""
    outputs[name] = { kind, ...identify(kind, await hashFolder(out, { sync: true })) }
  }
  return outputs
}

/** Whether a device had too little memory for so much at once: the supervisor tries again with less of a batch. */
const outOfMemory = (error: unknown): boolean =>
  Predicate.isTagged(error, "DeviceError") &&
  Predicate.hasProperty(error, "reason") &&
  Predicate.isTagged(error.reason, outOfMemoryTag) &&
  Predicate.hasProperty(error.reason, "bytes") &&
  error.reason.bytes === null

/** Whether its device went away: the supervisor tries once more in a new process. */
const deviceLost = (error: unknown): boolean =>
  Predicate.isTagged(error, "DeviceError") &&
  Predicate.hasProperty(error, "reason") &&
  Predicate.isTagged(error.reason, deviceLostTag)

/** The stage's own error if it failed with one, else the defect. */
const errorOf = (cause: Cause.Cause<unknown>): { tag: string; message: string; stack: string } => {
  const failed = cause.reasons.find(Cause.isFailReason)
  const died = cause.reasons.find(Cause.isDieReason)
  const found = failed?.error ?? died?.defect
  // What the file system refused says so, with the remedy, wherever in a stage it was met.
  const refused = errnoOf(found) === undefined ? undefined : fileFailure("using", "the attempt's folder")(found)
  const error = refused === undefined || refused._tag === "FileTrouble" ? found : refused
  const tag = Predicate.hasProperty(error, "_tag")
    ? outOfMemory(error)
      ? outOfMemoryTag
      : deviceLost(error)
        ? deviceLostTag
        : String(error._tag)
    : error instanceof Error
      ? error.name
      : "Failure"
  return { tag, message: error instanceof Error ? error.message : String(error), stack: Cause.pretty(cause) }
}

let told = false
const tell = (error: { readonly tag: string; readonly message: string }): void => {
  if (told) return
  told = true
  try {
    writeSync(lastWordsFd, JSON.stringify({ tag: error.tag, message: error.message }))
  } catch {
    // Nobody listens (started by hand); the log has it.
  }
}

const main = async (dir: string, supervisor: number): Promise<number> => {
  guard(supervisor)
  // Ctrl-C reaches the whole process group; the supervisor decides what becomes of its workers.
  process.on("SIGINT", () => undefined)
  const asked = decodeTaskFile(readFileSync(join(dir, "task.json"), "utf8"))
  const journal = openJournal(join(dir, "journal.ndjson"), { fresh: true })
  const live = liveTask(dir, asked, journal)
  process.on("SIGTERM", live.stop)
  const exit = await Effect.runPromiseExit(Effect.scoped(attempt(dir, asked, live)))
  await rm(live.task.scratch, { recursive: true, force: true })
  if (Exit.isSuccess(exit)) {
    live.end({ outputs: exit.value })
    journal.close()
    return WorkerExit.done
  }
  const stopped = Cause.hasInterruptsOnly(exit.cause)
  const error = stopped
    ? { tag: "Interrupted", message: "stopped after a checkpoint; the next run goes on from it", stack: "" }
    : errorOf(exit.cause)
  console.error(stopped ? error.message : error.stack)
  tell(error)
  live.end({ error })
  journal.close()
  return stopped ? WorkerExit.stopped : WorkerExit.failed
}

const [dir, supervisor] = process.argv.slice(2)
if (import.meta.main && dir !== undefined) {
  main(dir, Number(supervisor ?? process.ppid)).then(
    (code) => process.exit(code),
    (cause) => {
      const error = cause instanceof Error ? cause : new Error(String(cause))
      console.error(`${basename(dir)}: ${error.stack ?? error.message}`)
      tell({ tag: Predicate.hasProperty(cause, "_tag") ? String(cause._tag) : error.name, message: error.message })
      process.exit(WorkerExit.failed)
    }
  )
}
