/**
 * The arms of an experiment with their pipelines found and imported.
 */
import { Result, Schema } from "effect"
import type { ArmSpec, Chain } from "./chain.ts"
import type { Located } from "./located.ts"
import { importPipeline } from "./module.ts"
import { build } from "./Pipeline.ts"
import type { ResolvedPipeline } from "./Planned.ts"
import { type Ast, encodedAst } from "./paths.ts"
import { didYouMean, type Place, type Problem, problemAt } from "./problems.ts"
import { availablePipelines, pipelineFile } from "./resolve.ts"
import type { TaskNode } from "./Stage.ts"

/** An arm whose pipeline was found. */
export interface ResolvedArm {
  readonly name: string | null
  readonly place: Place
  /** Parameters that only this arm has. */
  readonly own: ReadonlyArray<Located>
  /** Those and the shared ones, lowest first. */
  readonly layers: ReadonlyArray<Located>
  readonly pipeline: ResolvedPipeline
  readonly ast: Ast
}

/** The pipeline of every arm; one arm without a name where there are no `arms`. */
export const resolveArms = async (chain: Chain, projectRoot: string, problems: Array<Problem>) => {
  const specs: ReadonlyArray<readonly [string | null, ArmSpec | undefined]> =
    chain.arms.size === 0 ? [[null, undefined]] : [...chain.arms]
  const available = () => availablePipelines(projectRoot)
  const list = () => {
    const names = available()
    return names.length === 0
      ? "there is none in pipelines/ here; write ./file.ts or package/export"
      : `pipelines: ${names.join(", ")}`
  }
  const arms: Array<ResolvedArm> = []
  for (const [name, spec] of specs) {
    const entry = spec?.pipeline ?? chain.pipeline
    if (entry === undefined) {
      if (!chain.whole) continue
      const place = spec?.place ?? { ...chain.top, path: "pipeline" }
      problems.push(
        problemAt(place, name === null ? "the experiment has no pipeline" : `arm ${name} has no pipeline`, list())
      )
      continue
    }
    const place = entry.value.at
    const word = entry.value._tag === "Leaf" ? entry.value.value : undefined
    if (typeof word !== "string") continue
    const found = pipelineFile(word, chain.folderOf(place.file), projectRoot)
    if ("missing" in found) {
      const guess = didYouMean(word, available())
      problems.push(problemAt(place, found.missing, guess === null ? list() : `${guess} ${list()}`))
      continue
    }
    const module = await importPipeline(found.file)
    if ("missing" in module) {
      problems.push(problemAt(place, module.missing, module.hint))
      continue
    }
    const pipeline = { spec: word, file: found.file, pipeline: module.pipeline }
    arms.push({
      name,
      place,
      own: spec?.own ?? [],
      layers: spec?.layers ?? chain.params,
      pipeline,
      ast: encodedAst(module.pipeline.params)
    })
  }
  return { arms, complete: arms.length === specs.length }
}

/** The graph that an arm has by its defaults, so that what refers to it can be checked although its parameters are wrong. */
export const defaultGraph = (arm: ResolvedArm): ReadonlyArray<TaskNode> => {
  const decoded = Schema.decodeUnknownResult(arm.pipeline.pipeline.params)({} as unknown)
  if (Result.isFailure(decoded)) return []
  try {
    return build(arm.pipeline.pipeline, decoded.success)
  } catch {
    return []
  }
}
