/** What a run ends with and `exp show` prints: an experiment's ablation, read from the published database. */
import { Effect, Schema } from "effect"
import type { QueryRefused } from "../warehouse/errors.ts"
import { rows } from "../warehouse/sql.ts"
import { AblationRow, type AblationTextOptions, ablationText } from "./ablation.ts"

const decode = Schema.decodeUnknownEffect(Schema.Array(AblationRow))

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`

/** Rows of `ablation` of one experiment, metrics in the order of its report, arms by name. */
export const readAblation = (
  dir: string,
  experiment: string
): Effect.Effect<ReadonlyArray<AblationRow>, QueryRefused> =>
  // What this version cannot read was not written by it: a defect.
  Effect.flatMap(rows(dir, `from ablation where experiment = ${literal(experiment)}`), (found) =>
    Effect.orDie(decode(found))
  )

/** The text of an experiment's ablation; empty where nothing could be compared or measured yet. */
export const experimentText = (
  dir: string,
  experiment: string,
  options: AblationTextOptions = {}
): Effect.Effect<string, QueryRefused> =>
  Effect.map(readAblation(dir, experiment), (found) =>
    found.every(({ value }) => value === null) ? "" : ablationText(found, options)
  )
