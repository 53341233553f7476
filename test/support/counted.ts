/** Plans of the counting pipeline and runs of them, without YAML and without a database. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, Layer, Schema } from "effect"
import { growthOf } from "../../src/dsl/growth.ts"
import { encodeParams, keyParams, taskKey } from "../../src/dsl/key.ts"
import { build } from "../../src/dsl/Pipeline.ts"
import type { Plan, PlannedCell, PlannedTask } from "../../src/dsl/Planned.ts"
import type { TaskNode } from "../../src/dsl/Stage.ts"
import type { RunEvent } from "../../src/runner/events.ts"
import { Indexes } from "../../src/runner/Index.ts"
import { readJournal } from "../../src/runner/journal.ts"
import { type RunOptions, run } from "../../src/runner/supervisor.ts"
import counting from "./counting.ts"

export type Params = Readonly<Record<string, Readonly<Record<string, unknown>>>>

/** One cell a seed. `digests` replaces code digests by stage: an edited source. */
export const planOf = (
  params: Params,
  options: { readonly seeds?: ReadonlyArray<number>; readonly digests?: Readonly<Record<string, string>> } = {}
): Plan => {
  const tasks = new Map<string, PlannedTask>()
  const cells: Array<PlannedCell> = []
  for (const seed of options.seeds ?? [0]) {
    const id = `counting/one/seed=${seed}`
    const decoded = Schema.decodeSync(counting.params)(params)
    const encoded = JSON.parse(JSON.stringify(Schema.encodeSync(counting.params)(decoded)))
    const keys = new Map<TaskNode, string>()
    const mine: Array<PlannedCell["tasks"][number]> = []
    for (const [index, node] of build(counting, decoded).entries()) {
      const own = encodeParams(node.stage, node.params)
      const inputs = Object.fromEntries(
        Object.entries(node.inputs).map(([name, ref]) => [name, { task: keys.get(ref.task) ?? "", output: ref.output }])
      )
      const parts = {
        stage: node.stage.name,
        version: node.stage.version,
        params: keyParams(own),
        seed: node.stage.seeded ? seed : null,
        class: null
      }
      const key = taskKey(parts, inputs)
      keys.set(node, key)
      mine.push({ key, node: node.node, stage: node.stage.name, ordinal: 0 })
      const before = tasks.get(key)
      tasks.set(key, {
        ...parts,
        key,
        nodes: [...new Set([...(before?.nodes ?? []), node.node])],
        cells: [...new Set([...(before?.cells ?? []), id])],
        params: own,
        keyParams: parts.params,
        inputs,
        outputs: Object.fromEntries(Object.entries(node.stage.outputs).map(([name, kind]) => [name, kind.name])),
        code: { digest: options.digests?.[node.stage.name] ?? "c0de", files: {}, packages: {} },
        source: { pipeline: fileURLToPath(new URL("./counting.ts", import.meta.url)), params: encoded, index },
        state: "new",
        reasons: [],
        growth: growthOf(node.stage, node.params),
        goesOn: null,
        contentKey: null,
        realisation: null
      })
    }
    cells.push({ id, arm: "one", seed, params: encoded, tasks: mine })
  }
  return { experiment: "counting", cells, tasks: [...tasks.values()] }
}

export interface FakeIndex {
  /** Offsets reached, by journal. */
  readonly ingested: Map<string, number>
  published: number
}

export const fakeIndex = (root: string): { readonly seen: FakeIndex; readonly layer: Layer.Layer<Indexes> } => {
  const seen: FakeIndex = { ingested: new Map(), published: 0 }
  const index = {
    ingest: (journals: ReadonlyArray<string>) =>
      Effect.sync(() => {
        for (const path of journals) seen.ingested.set(path, readJournal(join(root, path)).next)
      }),
    publish: Effect.sync(() => void seen.published++)
  }
  return { seen, layer: Layer.succeed(Indexes, Indexes.of({ open: () => Effect.succeed(index) })) }
}

export const optionsOf = (root: string, more: Partial<RunOptions> = {}): RunOptions => ({
  root,
  projectRoot: fileURLToPath(new URL("../..", import.meta.url)),
  file: "counting.yaml",
  report: { metrics: [], baseline: {}, gates: [] },
  onEvent: () => undefined,
  cores: 2,
  // as long as a slow machine needs to the next checkpoint
  graceMs: 300_000,
  ...more
})

/** Runs a plan to its end in this process and returns what was told. */
export const runPlan = (root: string, plan: Plan, more: Partial<RunOptions> = {}) =>
  Effect.gen(function* () {
    const events: Array<RunEvent> = []
    const { seen, layer } = fakeIndex(root)
    const onEvent = (event: RunEvent): void => {
      events.push(event)
      more.onEvent?.(event)
    }
    const summary = yield* run(plan, optionsOf(root, { ...more, onEvent })).pipe(Effect.provide(layer))
    return { events, summary, index: seen }
  })

/** Every row of a kind that belongs to an attempt: the chain of what it resumes, each before its offset. */
export const rowsOf = (
  root: string,
  attempt: string,
  kind: string,
  before = Number.POSITIVE_INFINITY
): ReadonlyArray<unknown> => {
  const { lines } = readJournal(join(root, "attempts", attempt, "journal.ndjson"))
  const resumes = lines[0]?.value["resumes"] as { readonly attempt: string; readonly offset: number } | null | undefined
  const own = lines
    .filter((line) => line.value["t"] === kind && line.offset < before)
    .map((line) => withoutPerf(line.value))
  return [...(resumes ? rowsOf(root, resumes.attempt, kind, resumes.offset) : []), ...own]
}

const withoutPerf = (line: Readonly<Record<string, unknown>>): unknown =>
  JSON.parse(JSON.stringify(line, (key, value) => (key.startsWith("perf/") ? undefined : value)))

/** The run journals' lines of a kind, oldest first. */
export const runLines = (root: string, kind: string): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  runFiles(root).flatMap((file) =>
    readJournal(join(root, "runs", file))
      .lines.map((line) => line.value)
      .filter((line) => line["t"] === kind)
  )

const runFiles = (root: string): ReadonlyArray<string> => readdirSync(join(root, "runs")).sort()

/** What a task came to: the hashes of its outputs and its rows. */
export const resultOf = (root: string, key: string): unknown => {
  const bind = runLines(root, "bind").findLast((line) => line["key"] === key)
  const attempt = String(bind?.["attempt"])
  const asked = JSON.parse(readFileSync(join(root, "attempts", attempt, "task.json"), "utf8"))
  const file = join(root, "realisations", asked.contentKey, `${asked.codeDigest}.json`)
  return {
    outputs: JSON.parse(readFileSync(file, "utf8")).outputs,
    metrics: rowsOf(root, attempt, "metrics"),
    samples: rowsOf(root, attempt, "samples"),
    items: rowsOf(root, attempt, "items")
  }
}
