/**
 * From a YAML file to a fully checked experiment, or to every problem at once. Each arm at each point of the sweep is
 * decoded with its pipeline's Schema and built before anything expensive begins; nothing is written.
 */
import { resolve } from "node:path"
import { Effect, Result, Schema } from "effect"
import { defaultThreads } from "../device/numericClass.ts"
import { defaultGraph, type ResolvedArm, resolveArms } from "./arms.ts"
import type { Json } from "./canonical.ts"
import { type Chain, readChain } from "./chain.ts"
import { Experiment } from "./Experiment.ts"
import { resolveFiles } from "./files.ts"
import { problemsOf } from "./issues.ts"
import { type Entry, emptyMap, follow, type Located, plain } from "./located.ts"
import { thrown } from "./module.ts"
import { declaredSections, originHint, undeclared } from "./outside.ts"
import { build, type Refusal } from "./Pipeline.ts"
import type { LoadedExperiment, Variant } from "./Planned.ts"
import { applicable, expand, merge, nameVariants, unionDefaults, unknownKeys } from "./params.ts"
import { type Ast, has, knownPaths } from "./paths.ts"
import { didYouMean, InvalidExperiment, type Place, type Problem, problemAt, tidy } from "./problems.ts"
import { checkReferences } from "./references.ts"
import { projectRootOf } from "./resolve.ts"
import type { TaskNode } from "./Stage.ts"
import { type Point, pointIds, project, readSweep } from "./sweep.ts"
import { parseYaml } from "./yaml.ts"

export interface LoadOptions {
  /** `key=value`, the value in YAML; over everything else. */
  readonly set?: ReadonlyArray<string>
  /** Default: the nearest folder with a package.json above the file. */
  readonly projectRoot?: string
}

/** Reads, resolves and checks an experiment file. Fails with every problem at once; creates nothing on disk. */
export const loadExperiment = Effect.fn("dsl.loadExperiment")(function* (file: string, options: LoadOptions = {}) {
  const { loaded, problems } = yield* Effect.promise(() => load(resolve(file), options))
  if (loaded === undefined || problems.length > 0) return yield* new InvalidExperiment({ errors: tidy(problems) })
  return loaded
})

interface Outcome {
  readonly loaded?: LoadedExperiment
  readonly problems: ReadonlyArray<Problem>
}

const load = async (file: string, options: LoadOptions): Promise<Outcome> => {
  const projectRoot = options.projectRoot ?? projectRootOf(file)
  const chain = readChain(file)
  const problems: Array<Problem> = [...chain.problems]
  if (!chain.files.includes(file)) return { problems }

  const { arms, complete } = await resolveArms(chain, projectRoot, problems)
  const sets = (options.set ?? []).flatMap((text, i) => readSet(text, i + 1, problems))
  const shared = [...chain.params, ...sets]
  const asts = arms.map((arm) => arm.ast)
  const sweep = chain.sweep === undefined ? undefined : readSweep(chain.sweep)
  const points = (sweep?.points ?? []).map((point) => layerOf(point, chain.top))
  const declared = declaredSections([...shared, ...arms.flatMap((arm) => arm.layers), ...points], asts)
  if (complete) for (const layer of shared) problems.push(...unknown(layer, asts, declared))
  for (const arm of arms) for (const layer of arm.own) problems.push(...unknown(layer, [arm.ast], declared))

  problems.push(...(sweep?.problems ?? []))
  const axisOf = (ast: Ast, axis: string) => has(ast, axis.split(".")) && !undeclared(ast, axis.split("."), declared)
  const known = complete ? [...(sweep?.axes ?? [])].filter(([axis]) => !asts.some((ast) => axisOf(ast, axis))) : []
  for (const [axis, place] of known) {
    problems.push(
      problemAt(
        place,
        `no arm has the parameter ${axis}`,
        didYouMean(
          axis,
          asts.flatMap((ast) => knownPaths(ast))
        )
      )
    )
  }

  const variants: Array<Variant & { readonly values: Point }> = []
  const graphs = new Map<ResolvedArm, ReadonlyArray<TaskNode>>()
  for (const arm of arms) {
    const points = sweep === undefined ? [] : project(sweep.points, (axis) => has(arm.ast, axis.split(".")))
    const ids = pointIds(points, sweep?.axes.keys() ?? [])
    const spots =
      points.length === 0
        ? [{ point: new Map() as Point, id: null }]
        : points.map((point, i) => ({ point, id: ids[i]! }))
    for (const { point, id } of spots) {
      const result = await decodeVariant(chain, arm, [...arm.layers, layerOf(point, arm.place), ...sets])
      problems.push(...result.problems)
      if (result.tasks === undefined) continue
      graphs.set(arm, [...(graphs.get(arm) ?? []), ...result.tasks])
      const parts = [arm.name, id].filter((part) => part !== null)
      variants.push({
        arm: parts.length === 0 ? arm.pipeline.pipeline.name : parts.join("/"),
        armName: arm.name,
        point: id,
        pipeline: arm.pipeline,
        params: result.params,
        tasks: result.tasks,
        values: point
      })
    }
    if (!graphs.has(arm)) graphs.set(arm, defaultGraph(arm))
  }
  const sure = complete && [...graphs.values()].every((tasks) => tasks.length > 0)
  const references = checkReferences({ chain, variants, tasks: [...graphs.values()].flat(), sure, sweep })
  problems.push(...references.problems)
  if (problems.length > 0) return { problems }
  const { seeds, compute } = chain
  return {
    problems,
    loaded: {
      name: chain.name,
      file,
      files: chain.files,
      projectRoot,
      variants: variants.map(({ values: _, ...variant }) => variant),
      seeds: {
        list: seeds.list ?? Array.from({ length: seeds.count ?? 1 }, (_, i) => i),
        vary: seeds.vary ?? null,
        base: seeds.base ?? 0
      },
      baseline: references.baseline,
      report: { metrics: chain.report.metrics ?? [], gates: references.gates },
      compute: {
        threads: compute.threads ?? defaultThreads,
        dtype: compute.dtype ?? "f32",
        deterministic: compute.deterministic ?? false
      }
    }
  }
}

/** One `--set key=value` as a layer. */
const readSet = (text: string, line: number, problems: Array<Problem>): ReadonlyArray<Located> => {
  const equals = text.indexOf("=")
  const key = (equals < 0 ? text : text.slice(0, equals)).trim()
  const at: Place = { file: "--set", line, col: 1, path: key }
  if (equals < 0 || key === "") {
    problems.push(problemAt(at, `${JSON.stringify(text)} is no key=value`, "write --set grpo.steps=3"))
    return []
  }
  const parsed = parseYaml(text.slice(equals + 1), "--set", at)
  const value: Located = text.slice(equals + 1).trim() === "" ? { _tag: "Leaf", at, value: null } : parsed.root
  const layer = expand({ ...emptyMap(at), entries: new Map([[key, { key: at, value }]]) })
  problems.push(...parsed.problems, ...layer.problems)
  return parsed.problems.length > 0 ? [] : [layer.value]
}

const unknown = (layer: Located, asts: ReadonlyArray<Ast>, declared: ReadonlySet<string>): ReadonlyArray<Problem> =>
  unknownKeys(layer, asts, declared).map(({ path, entry }) => {
    const dotted = path.join(".")
    const whose = asts.length > 1 ? "no arm has" : "the pipeline has no"
    return problemAt(
      entry.key,
      `${whose} parameter ${dotted}`,
      originHint(path, asts) ??
        didYouMean(
          dotted,
          asts.flatMap((ast) => knownPaths(ast))
        ) ??
        (entry.key.file === "--set" ? setHint(path[0]!, entry.key.path) : null)
    )
  })

/** `--set` of another part of the file than its parameters. */
const setHint = (first: string, key: string): string | null =>
  first === "params"
    ? `leave \`params.\` out: ${key.slice("params.".length)}`
    : first in Experiment.fields
      ? `${first} is set in the file only`
      : null

const layerOf = (point: Point, place: Place): Located =>
  expand({ ...emptyMap(place), entries: new Map<string, Entry>(point) }).value

const strict = { errors: "all", onExcessProperty: "error" } as const

/** Merges the layers as one arm sees them, decodes, builds. */
const decodeVariant = async (
  chain: Chain,
  arm: ResolvedArm,
  layers: ReadonlyArray<Located>
): Promise<{
  readonly tasks?: ReadonlyArray<TaskNode>
  readonly params: Json
  readonly problems: ReadonlyArray<Problem>
}> => {
  const { ast, place } = arm
  const { pipeline } = arm.pipeline
  const merged = layers.reduce<Located>(
    (older, layer) => merge(older, applicable(layer, ast), ast),
    unionDefaults(ast, place)
  )
  const { value: tree, problems } = await resolveFiles(nameVariants(merged, ast), ast, chain.folderOf)
  const missingAt = { ...place, path: "params" }
  const decoded = Schema.decodeUnknownResult(pipeline.params, strict)(plain(tree))
  if (Result.isFailure(decoded)) {
    // A file that was not found stays a string, which is no second fault.
    const wrong = problemsOf(decoded.failure.issue, tree, ast, missingAt)
    const said = new Set(problems.map((p) => `${p.file}:${p.line}:${p.col}`))
    return { params: null, problems: [...problems, ...wrong.filter((p) => !said.has(`${p.file}:${p.line}:${p.col}`))] }
  }
  if (problems.length > 0) return { params: null, problems }
  const failing = (what: string, cause: unknown) => ({
    params: null,
    problems: [problemAt(place, `pipeline ${pipeline.name} ${what}: ${thrown(cause)}`, "mend the pipeline there")]
  })
  let checked: ReadonlyArray<Refusal>
  try {
    checked = pipeline.check(decoded.success as never)
  } catch (cause) {
    return failing("cannot check its parameters", cause)
  }
  const refused = checked.map(({ path, message, hint }) => {
    const { node, key, found } = follow(tree, path.split("."))
    return problemAt(
      found ? (node._tag === "Leaf" ? node.at : (key ?? missingAt)) : { ...(key ?? missingAt), path: `params.${path}` },
      message,
      hint ?? null
    )
  })
  if (refused.length > 0) return { params: null, problems: refused }
  try {
    const tasks = build(pipeline, decoded.success)
    return { tasks, params: Schema.encodeUnknownSync(pipeline.params)(decoded.success) as Json, problems: [] }
  } catch (cause) {
    return failing("cannot be built", cause)
  }
}
