/**
 * The Schema of an experiment file (`docs/experiments.md`). Parameters stay open here: the pipeline's own Schema
 * decides about them.
 */
import { Schema } from "effect"

const name = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, {
    message: "expected a name of letters, digits, dots, dashes and underscores that starts with a letter or digit"
  })
)

/** More seeds or points of a sweep than anybody runs, and few enough to be told of in seconds. */
export const mostCells = 10_000

const NonNegative = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Params = Schema.Record(Schema.String, Schema.Unknown)
const Row = Schema.Record(Schema.String, Schema.Unknown)
const distinct = Schema.makeFilter((list: ReadonlyArray<unknown>) => new Set(list).size === list.length, {
  message: "expected values that differ"
})

const some = Schema.isMinLength(1, { message: "expected at least one value" })

export const Arm = Schema.Struct({
  pipeline: Schema.optionalKey(
    Schema.String.annotate({ description: "The arm's own pipeline; the experiment's where it is left out" })
  ),
  params: Schema.optionalKey(Params.annotate({ description: "Parameters of this arm only; over `params`" }))
})

export const Sweep = Schema.Struct({
  grid: Schema.optionalKey(Params.annotate({ description: "Every combination of these lists of values" })),
  zip: Schema.optionalKey(Params.annotate({ description: "Lists of equal length, taken together" })),
  cells: Schema.optionalKey(
    Schema.Array(Row).annotate({ description: "Points spelt out; combined with grid and zip" })
  ),
  include: Schema.optionalKey(Schema.Array(Row).annotate({ description: "Further points, after exclude" })),
  exclude: Schema.optionalKey(
    Schema.Array(Row).annotate({ description: "Drops the points that have all these values" })
  )
}).annotate({ description: "What varies besides arms and seeds" })

export const Seeds = Schema.Struct({
  count: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: mostCells })).annotate({
      description: "Seeds 0 ... count - 1"
    })
  ),
  list: Schema.optionalKey(
    Schema.Array(NonNegative).check(some, distinct).annotate({ description: "The seeds themselves" })
  ),
  vary: Schema.optionalKey(
    Schema.Array(Schema.String).annotate({
      description: "Nodes (parameter sections) that follow the cell's seed; every seeded one where it is left out"
    })
  ),
  base: Schema.optionalKey(NonNegative.annotate({ description: "The seed of the nodes that do not vary (0)" }))
})
  .check(
    Schema.makeFilter((s) => s.count === undefined || s.list === undefined, {
      message: "expected count or list, not both"
    })
  )
  .annotate({ description: "Seeds of the cells; one seed, 0, where it is left out" })

export const GateSchema = Schema.Struct({
  metric: Schema.String,
  arm: Schema.optionalKey(Schema.String.annotate({ description: "Every arm but the baseline where it is left out" })),
  of: Schema.optionalKey(
    Schema.Literals(["value", "difference", "low", "high"]).annotate({
      description: "The column of `ablation` that is bounded (value)"
    })
  ),
  min: Schema.optionalKey(Schema.Finite),
  max: Schema.optionalKey(Schema.Finite)
}).check(Schema.makeFilter((g) => g.min !== undefined || g.max !== undefined, { message: "expected min or max" }))

export const Report = Schema.Struct({
  metrics: Schema.optionalKey(
    Schema.Array(Schema.String).annotate({ description: "What the report compares; `*` stands for any characters" })
  ),
  gates: Schema.optionalKey(Schema.Array(GateSchema).annotate({ description: "Bounds; a broken one is exit code 5" }))
})

export const Compute = Schema.Struct({
  threads: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 256 })).annotate({
      description: "Threads of one task on the CPU (2); part of the key of what computes"
    })
  ),
  dtype: Schema.optionalKey(Schema.Literals(["f32", "bf16"]).annotate({ description: "What is computed in (f32)" })),
  deterministic: Schema.optionalKey(
    Schema.Boolean.annotate({
      description: "On a card, sums in one order at every run, at some cost (false); a CPU has no other"
    })
  )
})

export const Experiment = Schema.Struct({
  name: Schema.optionalKey(name.annotate({ description: "Names the experiment in the warehouse; not inherited" })),
  extends: Schema.optionalKey(
    Schema.Union([Schema.String, Schema.Array(Schema.String).check(some)]).annotate({
      description: "Files below this one, relative to it; later ones over earlier ones"
    })
  ),
  pipeline: Schema.optionalKey(
    Schema.String.annotate({ description: "A name in pipelines/, ./a-file.ts, or a package's export" })
  ),
  params: Schema.optionalKey(Params.annotate({ description: "Parameters, nested or dotted" })),
  arms: Schema.optionalKey(
    Schema.Record(name, Schema.NullOr(Arm)).annotate({ description: "Methods that are compared" })
  ),
  sweep: Schema.optionalKey(Sweep),
  seeds: Schema.optionalKey(Seeds),
  baseline: Schema.optionalKey(
    Schema.Union([Schema.String, Params]).annotate({
      description: "What the others are compared with: an arm, sweep values, or both ({ arm: a, some.key: value })"
    })
  ),
  report: Schema.optionalKey(Report),
  compute: Schema.optionalKey(Compute)
})
export type Experiment = typeof Experiment.Type
