/**
 * A pipeline is a typed function that composes stages: parameters in, references to artifacts out. It is a module's
 * default export; YAML names the module. Building it runs nothing.
 */
import { Effect, Schema } from "effect"
import { nameSections, type Ref, type TaskNode } from "./Stage.ts"

export interface Pipeline<Name extends string = string, P = unknown> {
  readonly _tag: "Pipeline"
  readonly name: Name
  readonly params: Schema.Codec<P, unknown>
  readonly build: (params: P) => Readonly<Record<string, Ref>>
  /** Combinations that no single parameter's Schema can see; each with the dotted path to blame. */
  readonly check: (params: P) => ReadonlyArray<Refusal>
}

/** Why a combination of parameters is impossible, and where. */
export interface Refusal {
  /** Dotted, from the pipeline's parameters: `grpo.groupSize`. */
  readonly path: string
  readonly message: string
  readonly hint?: string
}

/** A pipeline with its parameter type forgotten. */
export interface AnyPipeline {
  readonly _tag: "Pipeline"
  readonly name: string
  readonly params: Schema.Codec<unknown, unknown>
  readonly build: (params: never) => Readonly<Record<string, Ref>>
  readonly check: (params: never) => ReadonlyArray<Refusal>
}

/**
 * @param params one Schema per section; every section must decode from `{}` (use `section`), so that a YAML file
 *   only says what differs.
 * @param options.check combinations that are impossible: reported with their places when the experiment is loaded
 */
export const make = <
  const Name extends string,
  const F extends Readonly<Record<string, Schema.Codec<unknown, unknown>>>
>(
  name: Name,
  params: F,
  build: (params: { readonly [K in keyof F]: F[K]["Type"] }) => Readonly<Record<string, Ref>>,
  options: { readonly check?: (params: { readonly [K in keyof F]: F[K]["Type"] }) => ReadonlyArray<Refusal> } = {}
): Pipeline<Name, { readonly [K in keyof F]: F[K]["Type"] }> => ({
  _tag: "Pipeline",
  name,
  params: Schema.Struct(params) as never,
  build,
  check: options.check ?? (() => [])
})

/** A section that may be left out of the YAML: it then decodes from `{}`, all defaults. */
export const section = <S extends Schema.Codec<unknown, unknown>>(schema: S) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed({} as never)))

/** The tasks reachable from a built pipeline's results, inputs before users, in a stable order. */
export const tasksOf = (results: Readonly<Record<string, Ref>>): ReadonlyArray<TaskNode> => {
  const order: Array<TaskNode> = []
  const seen = new Set<TaskNode>()
  const visit = (task: TaskNode): void => {
    if (seen.has(task)) return
    seen.add(task)
    for (const ref of Object.values(task.inputs)) visit(ref.task)
    order.push(task)
  }
  for (const ref of Object.values(results)) visit(ref.task)
  return order
}

/** Builds a pipeline from decoded parameters. */
export const build = (pipeline: AnyPipeline, params: unknown): ReadonlyArray<TaskNode> => {
  nameSections(params)
  return tasksOf(pipeline.build(params as never))
}
