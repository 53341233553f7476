/** The steps of the three parts, in order, with the seconds that each may take: a table, nothing computed. */
import { shapeNames } from "./shapes.ts"

export interface PlannedStep {
  readonly name: string
  readonly part: "a" | "b" | "c"
  /** Seconds that it may take. */
  readonly limit: number
}

const of = (part: PlannedStep["part"], limit: number, ...names: ReadonlyArray<string>): ReadonlyArray<PlannedStep> =>
  names.map((name) => ({ name, part, limit }))

const training = ["sft", "lora"]
const decoding = ["decode 64", "decode 256"]

export const parts = ["a", "b", "c"] as const

export const steps: ReadonlyArray<PlannedStep> = [
  ...of("a", 60, "loading"),
  ...of("a", 60, "donation", "dots"),
  ...of("a", 120, "ceilings"),
  ...of("a", 180, "attention"),
  ...of("b", 180, "0.5B logprobs"),
  ...shapeNames.flatMap((shape) => of("b", 240, ...[...training, ...decoding].map((work) => `${shape} ${work}`))),
  ...of("b", 180, "0.5B decode 64 f32", "0.5B sft unrolled", "0.5B lora unrolled", "3B lora loop"),
  ...of("c", 60, "peer versions"),
  ...shapeNames.flatMap((shape) => of("c", 120, ...[...training, ...decoding].map((work) => `${shape} ${work}`))),
  ...of("c", 120, "0.5B trl sft")
]

export const stepsOf = (part: PlannedStep["part"]): ReadonlyArray<PlannedStep> =>
  steps.filter((step) => step.part === part)
