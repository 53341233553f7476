/** `task.json`: what a worker is asked to do. It holds no path into the warehouse, so the warehouse may be moved. */
import { Schema } from "effect"
import type { Json } from "../dsl/canonical.ts"
import { ResumePoint } from "./checkpoint.ts"

const json = Schema.Unknown as Schema.Codec<Json, unknown>

export const TaskFile = Schema.Struct({
  format: Schema.Literal(1),
  attempt: Schema.String,
  key: Schema.String,
  stage: Schema.String,
  version: Schema.Int,
  contentKey: Schema.String,
  codeDigest: Schema.String,
  /** Where the stage is found again: task `index` of the pipeline that is the module's default export. */
  source: Schema.Struct({ pipeline: Schema.String, params: json, index: Schema.Int }),
  /** The stage's parameters, encoded. */
  params: json,
  /** For each input the SHA-256 of the artifact it is. */
  inputs: Schema.Record(Schema.String, Schema.String),
  seed: Schema.NullOr(Schema.Int),
  class: Schema.NullOr(
    Schema.Struct({
      provider: Schema.String,
      dtype: Schema.Literals(["f32", "bf16"]),
      threads: Schema.NullOr(Schema.Int),
      runtime: Schema.String,
      deterministic: Schema.optionalKey(Schema.Literal(true))
    })
  ),
  /** How the devices that share the task are arranged (`data=2,model=2`); where it runs, not what it is. */
  mesh: Schema.optionalKey(Schema.NullOr(Schema.String)),
  /** The cards that it has to itself, as CUDA names them (`CUDA_VISIBLE_DEVICES`). */
  cards: Schema.optionalKey(Schema.Array(Schema.String)),
  /** The share of the usual micro-batch that it takes: less than 1 after more did not fit the device's memory. */
  batchShare: Schema.optionalKey(Schema.Finite),
  /** Of a stage that can take up a shorter run: the runs equal to it but for the number of steps, and its own number. */
  family: Schema.optionalKey(Schema.NullOr(Schema.Struct({ key: Schema.String, steps: Schema.Int }))),
  /** Where an interrupted attempt at the same content and code, or a shorter run of the family, is taken up. */
  resumes: Schema.NullOr(ResumePoint)
})
export type TaskFile = typeof TaskFile.Type

export const decodeTaskFile = Schema.decodeUnknownSync(Schema.fromJsonString(TaskFile))

/** The last words of a worker, over a pipe: they arrive even when no disk takes them. */
export const LastWords = Schema.fromJsonString(Schema.Struct({ tag: Schema.String, message: Schema.String }))
export const decodeLastWords = Schema.decodeUnknownOption(LastWords)

/** The tag of the failure of a task that did not fit its device's memory. */
export const outOfMemoryTag = "OutOfMemory"

/** The tag of the failure of a task whose device went away, or gave up, in mid-run. */
export const deviceLostTag = "DeviceLost"

/** Exit codes of a worker: its outputs are complete, its stage failed, it was asked to stop and did. */
export const WorkerExit = { done: 0, failed: 1, stopped: 143 } as const
