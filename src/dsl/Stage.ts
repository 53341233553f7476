/**
 * A stage is a typed, cached, journaled unit of work, and a value: parameters (Schema), typed inputs and outputs
 * (artifact kinds), errors, `run`. Called inside a pipeline it runs nothing: it adds a task to the graph and returns
 * typed references to that task's outputs.
 */
import type { Effect, Schema } from "effect"
import type { AnyKind, Optional, ReaderOf, WriterOf } from "../artifact/Kind.ts"

/** A reference to an output of a task that has not run yet. */
export interface Ref<out K extends AnyKind = AnyKind> {
  readonly kind: K
  readonly task: TaskNode
  readonly output: string
}

/** A task in a pipeline's graph: a stage with its parameters and where its inputs come from. */
export interface TaskNode {
  readonly stage: AnyStage
  /** The parameter section handed to the stage (`warmStart`, `grpo`, ...), or the name given. */
  readonly node: string
  /** Decoded: every default resolved. */
  readonly params: unknown
  readonly inputs: Readonly<Record<string, Ref>>
}

type Kinds = Readonly<Record<string, AnyKind>>
type OptionalNames<K extends Kinds> = { [N in keyof K]: K[N] extends Optional ? N : never }[keyof K]
/** What a stage is called with: a reference for every input; those of an `optional` kind may be left out. */
type RefsOf<K extends Kinds> = { readonly [N in Exclude<keyof K, OptionalNames<K>>]: Ref<Plain<K[N]>> } & {
  readonly [N in OptionalNames<K>]?: Ref<Plain<K[N]>> | undefined
}
type Plain<K extends AnyKind> = K extends Optional<infer Inner> ? Inner : K
type ReadersOf<K extends Kinds> = {
  readonly [N in keyof K]: K[N] extends Optional<infer Inner> ? ReaderOf<Inner> | undefined : ReaderOf<K[N]>
}
type WritersOf<K extends Kinds> = { readonly [N in keyof K]: WriterOf<K[N]> }

export type Direction = "higher" | "lower" | "none"

export interface StageContext<P, I extends Kinds, O extends Kinds> {
  readonly params: P
  readonly inputs: ReadersOf<I>
  readonly outputs: WritersOf<O>
  /** The cell's seed where `seeds.vary` names this node, else the experiment's fixed seed; 0 for unseeded stages. */
  readonly seed: number
}

/** A stage that can take up where a shorter run of it ended. */
export interface Grows<in P> {
  /** The parameter that only says when to stop. */
  readonly param: string
  /** Why these parameters make the number of steps matter from the first on; null where they do not. */
  readonly unless: (params: P) => string | null
}

export interface StageSpec<P, I extends Kinds, O extends Kinds, E, R> {
  /** `import.meta.url` of the module that defines the stage: the root of its code digest. */
  readonly module: string
  /** Raise it when the meaning of equal code changes (a data format, say). */
  readonly version: number
  readonly params: Schema.Codec<P, unknown>
  readonly inputs: I
  readonly outputs: O
  /** Whether `seed` is part of the task's key. */
  readonly seeded?: boolean
  /** Whether the stage needs a `Device` (and its key the numeric class). */
  readonly device?: boolean
  /** Step metrics it journals, by name (`rewards/*\/mean` stands for many), and which way is better. */
  readonly metrics?: Readonly<Record<string, Direction>>
  /** Per-prompt results it journals, likewise; what `report.metrics` may name. */
  readonly items?: Readonly<Record<string, Direction>>
  /** Modules of parts that the stage was composed from (rewards of a user, say): added to the code digest. */
  readonly parts?: ReadonlyArray<string>
  /** How it goes on where a run with fewer steps ended (`growth.ts`); it then has an output `checkpoint`. */
  readonly grows?: Grows<P> | null
  readonly run: (context: StageContext<P, I, O>) => Effect.Effect<void, E, R>
}

export interface Stage<Name extends string, P, I extends Kinds, O extends Kinds, E, R>
  extends Required<Omit<StageSpec<P, I, O, E, R>, "run">> {
  readonly name: Name
  readonly run: (context: StageContext<P, I, O>) => Effect.Effect<void, E, R>
  /** Adds a task. `params` is a section of the pipeline's parameters; anything else needs `options.node`. */
  (inputs: RefsOf<I>, params: P, options?: { readonly node?: string }): RefsOf<O>
}

/** A stage with its types forgotten, as the planner and the runner handle it. */
export interface AnyStage {
  readonly name: string
  readonly module: string
  readonly version: number
  readonly params: Schema.Codec<unknown, unknown>
  readonly inputs: Kinds
  readonly outputs: Kinds
  readonly seeded: boolean
  readonly device: boolean
  readonly metrics: Readonly<Record<string, Direction>>
  readonly items: Readonly<Record<string, Direction>>
  readonly parts: ReadonlyArray<string>
  readonly grows: Grows<never> | null
  readonly run: (context: never) => Effect.Effect<void, unknown, unknown>
}

/** Shared by all copies of this module: a user's package may bring its own. */
const sectionsKey: unique symbol = Symbol.for("overtone/dsl/sections")
const shared = globalThis as { [sectionsKey]?: WeakMap<object, string> }
shared[sectionsKey] ??= new WeakMap()
const sections = shared[sectionsKey]

/** Remembers under which dotted path a section of decoded parameters stands, so that a stage can name its node. */
export const nameSections = (params: unknown, path: ReadonlyArray<string> = []): void => {
  if (typeof params !== "object" || params === null) return
  if (path.length > 0) sections.set(params, path.join("."))
  for (const [key, value] of Object.entries(params)) nameSections(value, [...path, key])
}

export const make = <const Name extends string, P, const I extends Kinds, const O extends Kinds, E = never, R = never>(
  name: Name,
  spec: StageSpec<P, I, O, E, R>
): Stage<Name, P, I, O, E, R> => {
  const full = { seeded: false, device: false, metrics: {}, items: {}, parts: [], grows: null, ...spec }
  if (full.grows !== null && !("checkpoint" in spec.outputs)) {
    throw new TypeError(
      `stage ${name}: it \`grows\`, so it needs an output \`checkpoint\` for what a longer run takes up`
    )
  }
  const call = (inputs: RefsOf<I>, params: P, options?: { readonly node?: string }): RefsOf<O> => {
    const node = options?.node ?? (typeof params === "object" && params !== null ? sections.get(params) : undefined)
    if (node === undefined) {
      throw new TypeError(
        `stage ${name}: its parameters are no section of the pipeline's parameters; pass { node: "..." } as third argument`
      )
    }
    const given = Object.entries<Ref | undefined>(inputs).filter(
      (entry): entry is [string, Ref] => entry[1] !== undefined
    )
    const task: TaskNode = { stage: stage as AnyStage, node, params, inputs: Object.fromEntries(given) }
    return Object.fromEntries(
      Object.entries(spec.outputs).map(([output, kind]) => [output, { kind, task, output }])
    ) as RefsOf<O>
  }
  const stage = Object.defineProperties(call, {
    ...Object.fromEntries(Object.entries(full).map(([k, value]) => [k, { value, enumerable: true }])),
    name: { value: name, enumerable: true }
  }) as Stage<Name, P, I, O, E, R>
  return stage
}
