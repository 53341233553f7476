/**
 * The plan of an experiment: its cells, the tasks that they share by key, and which of those exist already. Pure but
 * for reading the stages' source; nothing runs.
 */
import { fileURLToPath } from "node:url"
import { Effect } from "effect"
import { numericClassOf } from "../device/classOf.ts"
import type { NumericClass } from "../device/numericClass.ts"
import type { Json } from "./canonical.ts"
import { CodeUnreadable, codeManifests } from "./digest.ts"
import { familyKey, growthOf } from "./growth.ts"
import { codeModules, contentKey, encodeParams, keyParams, taskKey } from "./key.ts"
import type { CodeManifest, LoadedExperiment, Lookup, Plan, PlannedCell, PlannedTask, Variant } from "./Planned.ts"
import { reasonsFor } from "./reasons.ts"
import { fileOrNothing, manifestOf } from "./resolve.ts"
import type { AnyStage, TaskNode } from "./Stage.ts"

export interface PlanOptions {
  /** What computes: `cpu` (default), `webgpu`, `xla:...`; part of the numeric class. */
  readonly provider?: string
}

interface Draft {
  readonly task: Omit<PlannedTask, "state" | "reasons" | "goesOn" | "contentKey" | "realisation" | "nodes" | "cells">
  readonly nodes: Set<string>
  readonly cells: Set<string>
  /** Where the previous run may have bound another task. */
  readonly spots: Array<{ readonly cell: string; readonly node: string; readonly ordinal: number }>
}

/** Plans an experiment against what a warehouse has. */
export const plan = Effect.fn("dsl.plan")(function* (
  experiment: LoadedExperiment,
  lookup: Lookup,
  options: PlanOptions = {}
) {
  // Equal sources have one manifest: a sweep has thousands of tasks and a dozen stages.
  const sources = new Map<string, Sources>()
  const sourcesOf = (task: TaskNode): Sources => {
    const found = withBackend(task.stage, options.provider ?? "cpu", encodeParams(task.stage, task.params))
    const id = JSON.stringify(found)
    const known = sources.get(id) ?? found
    sources.set(id, known)
    return known
  }
  const needed = new Map(
    experiment.variants.flatMap(({ tasks }) => tasks.map((task) => [task, sourcesOf(task)] as const))
  )
  const distinct = [...sources.values()]
  const manifests = yield* Effect.tryPromise({
    try: () => codeManifests(distinct),
    catch: (cause) =>
      cause instanceof CodeUnreadable ? cause : new CodeUnreadable({ file: "a stage's imports", detail: String(cause) })
  })
  const made = new Map(distinct.map((one, i) => [one, manifests[i]!]))
  const code = new Map([...needed].map(([task, one]) => [task, made.get(one)!]))
  const { cells, drafts } = draftTasks(experiment, code, numericClassOf(experiment.compute, options.provider ?? "cpu"))
  const done: Plan = {
    experiment: experiment.name,
    cells,
    tasks: judge([...drafts.values()], lookup, manifestOf(experiment.projectRoot).name)
  }
  return done
})

interface Sources {
  readonly module: string
  readonly parts: ReadonlyArray<string>
}

/**
 * What a task's code digest is made of: the stage, what it was composed of, the device's backend where it computes (an
 * edited writer is another science), and the users' modules that its encoded parameters name.
 */
export const withBackend = ({ module, parts, device }: AnyStage, provider: string, params: Json): Sources => {
  const backend = device ? backends[provider.replace(/^xla:.*/, "xla")] : undefined
  return { module, parts: [...parts, ...(backend === undefined ? [] : [backend]), ...codeModules(params)] }
}

/** Next to this file, whatever its ending: sources and the compiled package lie alike. */
const backend = (path: string): string => fileOrNothing(fileURLToPath(new URL(path, import.meta.url))) ?? path
const backends: Readonly<Record<string, string>> = {
  cpu: backend("../device/onnx/OnnxCpu"),
  webgpu: backend("../device/onnx/OnnxWebGpu"),
  xla: backend("../device/xla/XlaDevice")
}

/** Cells and their tasks, each key once, inputs before users. */
const draftTasks = (
  experiment: LoadedExperiment,
  code: ReadonlyMap<TaskNode, CodeManifest>,
  asked: NumericClass
): { readonly cells: ReadonlyArray<PlannedCell>; readonly drafts: ReadonlyMap<string, Draft> } => {
  const cells: Array<PlannedCell> = []
  const drafts = new Map<string, Draft>()
  const { list, vary, base } = experiment.seeds
  for (const variant of experiment.variants) {
    const encoded = variant.tasks.map((task) => encodeParams(task.stage, task.params))
    const entering = encoded.map(keyParams)
    const ordinals = ordinalsOf(variant)
    for (const seed of list) {
      const id = `${experiment.name}/${variant.arm}/seed=${seed}`
      const keys: Array<string> = []
      const tasks: Array<PlannedCell["tasks"][number]> = []
      for (const [index, node] of variant.tasks.entries()) {
        const { stage } = node
        const parts = {
          stage: stage.name,
          version: stage.version,
          params: entering[index]!,
          seed: !stage.seeded ? null : vary === null || vary.includes(node.node) ? seed : base,
          class: stage.device ? asked : null
        }
        const inputs = Object.fromEntries(
          Object.entries(node.inputs).map(([name, ref]) => [
            name,
            { task: keys[variant.tasks.indexOf(ref.task)]!, output: ref.output }
          ])
        )
        const key = taskKey(parts, inputs)
        keys.push(key)
        const ordinal = ordinals[index]!
        tasks.push({ key, node: node.node, stage: stage.name, ordinal })
        const draft = drafts.get(key) ?? {
          task: {
            key,
            stage: stage.name,
            version: stage.version,
            params: encoded[index]!,
            keyParams: parts.params,
            inputs,
            outputs: Object.fromEntries(Object.entries(stage.outputs).map(([name, kind]) => [name, kind.name])),
            seed: parts.seed,
            class: parts.class,
            code: code.get(node)!,
            source: { pipeline: variant.pipeline.file, params: variant.params, index },
            growth: growthOf(stage, node.params)
          },
          nodes: new Set<string>(),
          cells: new Set<string>(),
          spots: []
        }
        drafts.set(key, draft)
        draft.nodes.add(node.node)
        draft.cells.add(id)
        draft.spots.push({ cell: id, node: node.node, ordinal })
      }
      cells.push({ id, arm: variant.arm, seed, params: variant.params, tasks })
    }
  }
  return { cells, drafts }
}

/** For each task the number of tasks before it with the same node and stage. */
const ordinalsOf = (variant: Variant): ReadonlyArray<number> => {
  const seen = new Map<string, number>()
  return variant.tasks.map(({ node, stage }) => {
    const id = `${node}\0${stage.name}`
    const n = seen.get(id) ?? 0
    seen.set(id, n + 1)
    return n
  })
}

/** Whether a task with these inputs takes up a shorter run, where there is one. */
const goesOn = (task: Draft["task"], inputs: Readonly<Record<string, string>>, lookup: Lookup) => {
  if (task.growth === null) return null
  const { because, param, steps } = task.growth
  const family = familyKey({ ...task, params: task.keyParams }, param, inputs)
  const from = lookup.shorter(family, task.code.digest, steps)
  return from === undefined ? null : because === null ? { from } : { because }
}

/** Which tasks exist, and why the others do not. A task whose inputs are to be made is not cached (yet). */
const judge = (
  drafts: ReadonlyArray<Draft>,
  lookup: Lookup,
  ownPackage: string | undefined
): ReadonlyArray<PlannedTask> => {
  const judged = new Map<string, PlannedTask>()
  for (const { task, nodes, cells, spots } of drafts) {
    const inputs = Object.entries(task.inputs).map(([name, { task: key, output }]) => {
      const from = judged.get(key)!
      return [name, from.realisation?.outputs[output]?.sha256] as const
    })
    const known = inputs.every((entry): entry is readonly [string, string] => entry[1] !== undefined)
    const parts = { ...task, params: task.keyParams }
    const content = known ? contentKey(parts, Object.fromEntries(inputs)) : null
    const found = content === null ? undefined : lookup.realisation(content, task.code.digest)
    const lost = Object.entries(found?.outputs ?? {}).filter(([, { sha256 }]) => !lookup.artifact(sha256))
    const cached = found !== undefined && lost.length === 0
    const previous = cached
      ? []
      : spots.flatMap(({ cell, node, ordinal }) => {
          const before = lookup.previous(cell, node, task.stage, ordinal)
          return before?.done === true ? [{ node, task: before }] : []
        })
    judged.set(task.key, {
      ...task,
      nodes: [...nodes],
      cells: [...cells],
      state: cached ? "cached" : previous.length > 0 ? "stale" : "new",
      reasons: reasonsFor(task, previous, {
        lost: lost.map(([name, { sha256 }]) => [name, sha256] as const),
        ownPackage,
        unmade: inputs.flatMap(([name, sha256]) => (sha256 === undefined ? [name] : []))
      }),
      goesOn: known && !cached ? goesOn(task, Object.fromEntries(inputs), lookup) : null,
      contentKey: content,
      realisation: cached ? found : null
    })
  }
  return [...judged.values()]
}
