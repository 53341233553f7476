/**
 * What loading and planning hand to the runner and the CLI: types only.
 */

import type { NumericClass } from "../device/numericClass.ts"
import type { Json } from "./canonical.ts"
import type { Growth } from "./growth.ts"
import type { AnyPipeline } from "./Pipeline.ts"
import type { TaskNode } from "./Stage.ts"

/** A pipeline and where it came from. */
export interface ResolvedPipeline {
  /** As the YAML names it. */
  readonly spec: string
  /** Absolute path of the module whose default export it is. */
  readonly file: string
  readonly pipeline: AnyPipeline
}

/** One arm at one point of the sweep: a pipeline with complete parameters, built. */
export interface Variant {
  /** `cells.arm`, unique: the arm's name (the pipeline's, where there are no `arms`), the sweep point, or `arm/point`. */
  readonly arm: string
  readonly armName: string | null
  readonly point: string | null
  readonly pipeline: ResolvedPipeline
  /** Encoded, every default resolved: `cells.params`. */
  readonly params: Json
  /** The pipeline's graph, inputs before users. */
  readonly tasks: ReadonlyArray<TaskNode>
}

export interface Gate {
  readonly metric: string
  /** An arm's label; every arm but the baseline where it is left out. */
  readonly arm: string | null
  /** Which column of `ablation` is bounded. */
  readonly of: "value" | "difference" | "low" | "high"
  readonly min: number | null
  readonly max: number | null
}

/** A fully checked experiment. */
export interface LoadedExperiment {
  readonly name: string
  /** Absolute. */
  readonly file: string
  /** The file and what it extends, absolute. */
  readonly files: ReadonlyArray<string>
  readonly projectRoot: string
  readonly variants: ReadonlyArray<Variant>
  readonly seeds: {
    readonly list: ReadonlyArray<number>
    /** Nodes that follow the cell seed; null: every seeded one. */
    readonly vary: ReadonlyArray<string> | null
    /** The seed of those that do not. */
    readonly base: number
  }
  /** For each variant's label the label of the variant it is compared with; empty where there is no baseline. */
  readonly baseline: Readonly<Record<string, string>>
  readonly report: { readonly metrics: ReadonlyArray<string>; readonly gates: ReadonlyArray<Gate> }
  readonly compute: { readonly threads: number; readonly dtype: "f32" | "bf16"; readonly deterministic: boolean }
}

/** A stage's code: what its digest is made of. */
export interface CodeManifest {
  readonly digest: string
  /** `<package>/<path in it>` -> SHA-256 of the normalised source. */
  readonly files: Readonly<Record<string, string>>
  /** Outside packages -> version. */
  readonly packages: Readonly<Record<string, string>>
}

/** As `src/artifact/realisation.ts` stores it; the planner needs only this much. */
export interface KnownRealisation {
  readonly attempt: string
  readonly outputs: Readonly<Record<string, { readonly kind: string; readonly sha256: string; readonly bytes: number }>>
}

/** The task that a cell's node was bound to by the last run that had it. */
export interface PreviousTask {
  readonly key: string
  readonly stage: string
  readonly version: number
  /** As in the run journal's `task` line: `PlannedTask.keyParams`. */
  readonly params: Json
  readonly inputs: Readonly<Record<string, { readonly task: string; readonly output: string }>>
  readonly seed: number | null
  readonly class: NumericClass | null
  /** Of the attempt whose rows the task is bound to. */
  readonly codeDigest: string | null
  /** If it was kept: lets a plan name the changed files. */
  readonly code: Pick<CodeManifest, "files" | "packages"> | null
  /** Whether it came to an end, so that the cell's node has run before. */
  readonly done: boolean
}

/** What a plan asks of the warehouse; every answer is a small synchronous read. */
export interface Lookup {
  readonly realisation: (contentKey: string, codeDigest: string) => KnownRealisation | undefined
  /** Whether the artifact's folder is there. */
  readonly artifact: (sha256: string) => boolean
  /** Most steps, below `steps`, of a finished run of this family under this code whose checkpoint is there. */
  readonly shorter: (family: string, codeDigest: string, steps: number) => number | undefined
  /** By cell, node, stage and which of that node's tasks with that stage (0 almost always). */
  readonly previous: (cell: string, node: string, stage: string, ordinal: number) => PreviousTask | undefined
}

/** A warehouse that has nothing. */
export const emptyLookup: Lookup = {
  realisation: () => undefined,
  artifact: () => false,
  shorter: () => undefined,
  previous: () => undefined
}

export interface Reason {
  readonly kind: "param" | "input" | "code" | "version" | "class" | "missing"
  /** A parameter's dotted path from its node, an input's name, a source file, an output's name. */
  readonly path: string
  readonly old: Json
  readonly new: Json
}

export interface PlannedTask {
  readonly key: string
  readonly stage: string
  readonly version: number
  /** Parameter sections it was built from, over all cells. */
  readonly nodes: ReadonlyArray<string>
  readonly cells: ReadonlyArray<string>
  /** Encoded for the worker, with the paths of outside files. */
  readonly params: Json
  /** As they enter the key. */
  readonly keyParams: Json
  readonly inputs: Readonly<Record<string, { readonly task: string; readonly output: string }>>
  /** Output name -> kind name. */
  readonly outputs: Readonly<Record<string, string>>
  /** Null where the stage is not seeded. */
  readonly seed: number | null
  /** Null where the stage uses no device. */
  readonly class: NumericClass | null
  readonly code: CodeManifest
  /** Where a worker finds the stage: `stageOf` in `plan.ts`. */
  readonly source: TaskSource
  readonly state: "cached" | "stale" | "new"
  readonly reasons: ReadonlyArray<Reason>
  /** Of a stage that can take up a shorter run. */
  readonly growth: Growth | null
  /** Of a task that is to run and of which there is a shorter run: the step it goes on from, or why it starts again. */
  readonly goesOn: { readonly from: number } | { readonly because: string } | null
  /** Known where every input is cached. */
  readonly contentKey: string | null
  /** Of a cached task. */
  readonly realisation: KnownRealisation | null
}

/** Import the pipeline, decode its parameters, build it, take the task at `index`. JSON. */
export interface TaskSource {
  readonly pipeline: string
  readonly params: Json
  readonly index: number
}

export interface PlannedCell {
  /** `<experiment>/<arm>/seed=<n>`. */
  readonly id: string
  readonly arm: string
  readonly seed: number
  readonly params: Json
  /** In dependency order. `ordinal` counts a node's tasks of one stage. */
  readonly tasks: ReadonlyArray<{
    readonly key: string
    readonly node: string
    readonly stage: string
    readonly ordinal: number
  }>
}

export interface Plan {
  readonly experiment: string
  readonly cells: ReadonlyArray<PlannedCell>
  /** Each key once, inputs before users. */
  readonly tasks: ReadonlyArray<PlannedTask>
}
