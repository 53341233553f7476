/** Gates: bounds that an experiment declares on its own ablation (`report.gates`). A broken one is exit code 5. Pure. */
import type { Gate } from "../dsl/Planned.ts"
import type { AblationRow } from "../report/ablation.ts"
import { number } from "./format.ts"

/** What gates look at in a row of `ablation`. */
export type Measured = Pick<
  AblationRow,
  "metric" | "arm" | "baseline" | "value" | "baseline_value" | "difference" | "low" | "high"
>

const bound = ({ min, max }: Gate): string =>
  [min === null ? "" : `at least ${number(min)}`, max === null ? "" : `at most ${number(max)}`]
    .filter((text) => text !== "")
    .join(" and ")

/** The measured quantity of each arm that a gate is about; the baseline's own value stands in the rows of the others. */
const measured = (
  gate: Gate,
  rows: ReadonlyArray<Measured>
): ReadonlyArray<readonly [arm: string, value: number | null]> => {
  const same = rows.filter((row) => row.metric === gate.metric)
  if (gate.arm === null) return same.map((row) => [row.arm, row[gate.of]])
  const own = same.find((row) => row.arm === gate.arm)
  if (own) return [[gate.arm, own[gate.of]]]
  const beside = same.find((row) => row.baseline === gate.arm)
  return [[gate.arm, beside && gate.of === "value" ? beside.baseline_value : null]]
}

/** One sentence for each gate that is broken, by a number or by there being none. */
export const broken = (gates: ReadonlyArray<Gate>, rows: ReadonlyArray<Measured>): ReadonlyArray<string> =>
  gates.flatMap((gate) => {
    const values = measured(gate, rows)
    const what = gate.of === "value" ? gate.metric : `${gate.of} of ${gate.metric}`
    if (values.length === 0) return [`${what} must be ${bound(gate)}, but nothing was measured`]
    return values.flatMap(([arm, value]) => {
      const must = `${what} of ${arm} must be ${bound(gate)}`
      if (value === null || Number.isNaN(value)) return [`${must}, but there is nothing to base it on`]
      const kept = (gate.min === null || value >= gate.min) && (gate.max === null || value <= gate.max)
      return kept ? [] : [`${must}; it is ${number(value)}`]
    })
  })
