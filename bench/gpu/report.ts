/**
 * The records of the three parts as Markdown: what the card is, what it does at best, ours beside the peer with the floor and
 * the target for an H100, and what failed.
 */
import type { Entry, PartRecord } from "./record.ts"
import { parts, stepsOf } from "./steps.ts"

/** Tokens a second on one H100: the least, and what is aimed at. */
export const goals: Readonly<Record<string, readonly [floor: number, target: number]>> = {
  "0.5B sft": [60_000, 100_000],
  "0.5B lora": [70_000, 120_000],
  "0.5B decode 64": [15_000, 25_000],
  "0.5B decode 256": [45_000, 70_000],
  "3B sft": [12_000, 16_000],
  "3B lora": [15_000, 24_000],
  "3B decode 64": [10_000, 15_000],
  "3B decode 256": [22_000, 32_000]
}

type Fields = Readonly<Record<string, unknown>>
const fieldsOf = (entry: Entry | undefined): Fields =>
  typeof entry?.result === "object" && entry.result !== null ? (entry.result as Fields) : {}
const numberOf = (entry: Entry | undefined, field: string): number | undefined => {
  const value = fieldsOf(entry)[field]
  return typeof value === "number" && Number.isFinite(value) ? value : undefined
}

const whole = (value: number | undefined) => (value === undefined ? "-" : Math.round(value).toLocaleString("en-US"))
const fixed = (value: number | undefined, digits: number) => (value === undefined ? "-" : value.toFixed(digits))
const gigabytes = (value: number | undefined) => fixed(value === undefined ? undefined : value / 1e9, 1)

const row = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`
const table = (head: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n")

/** Where a rate stands between floor and target. */
const standing = (rate: number | undefined, goal: readonly [number, number] | undefined): string => {
  if (rate === undefined || goal === undefined) return "-"
  return rate >= goal[1] ? "target met" : rate >= goal[0] ? "floor met" : "below the floor"
}

/** Compares ours with the peer's, work by work. */
export const speeds = (ours: PartRecord["steps"], theirs: PartRecord["steps"], tiny: boolean): string => {
  const names = stepsOf("b").filter(({ name }) => name in ours && numberOf(ours[name], "tokensPerSecond") !== undefined)
  const head = [
    "work",
    "ours, tokens/s",
    "peer",
    "ours / peer",
    "floor",
    "target",
    "",
    "compile, s",
    "peak GB, device",
    "peak GB, plan",
    "peer's peak GB"
  ]
  const rows = names.map(({ name }) => {
    const [mine, other] = [numberOf(ours[name], "tokensPerSecond"), numberOf(theirs[name], "tokensPerSecond")]
    const goal = tiny ? undefined : goals[name]
    return [
      name,
      whole(mine),
      whole(other),
      fixed(mine === undefined || other === undefined ? undefined : mine / other, 2),
      whole(goal?.[0]),
      whole(goal?.[1]),
      standing(mine, goal),
      fixed(numberOf(ours[name], "compileSeconds"), 1),
      gigabytes(numberOf(ours[name], "devicePeakBytes")),
      gigabytes(numberOf(ours[name], "planPeakBytes")),
      gigabytes(numberOf(theirs[name], "peakBytes"))
    ]
  })
  return rows.length === 0 ? "No speeds were measured." : table(head, rows)
}

const block = (value: unknown) => `\`\`\`json\n${JSON.stringify(value, null, 1)}\n\`\`\``

/** What was checked rather than timed: as it was found. */
const checks = (records: ReadonlyArray<PartRecord>): ReadonlyArray<string> =>
  ["loading", "donation", "dots", "attention", "ceilings", "0.5B logprobs", "peer versions"].flatMap((name) => {
    const entry = records.map(({ steps }) => steps[name]).find((found) => found?.status === "done")
    return entry === undefined ? [] : [`### ${name}`, block(entry.result)]
  })

/** Steps that failed, with what they said; and those that were not run. */
const gaps = (records: ReadonlyArray<PartRecord>): ReadonlyArray<string> => {
  const known = Object.assign({}, ...records.map(({ steps }) => steps)) as PartRecord["steps"]
  const failed = parts.flatMap(stepsOf).filter(({ name, part }) => {
    const own = records.find((record) => record.part === part)
    return own?.steps[name]?.status === "failed"
  })
  const missing = parts.flatMap((part) => {
    const own = records.find((record) => record.part === part)?.steps ?? {}
    return stepsOf(part).flatMap(({ name }) => (own[name] === undefined ? [`${part}: ${name}`] : []))
  })
  const lines = failed.map(({ name, part }) => {
    const entry = records.find((record) => record.part === part)?.steps[name] ?? known[name]
    const last = entry?.tail?.split("\n").slice(-3).join(" / ")
    return `- ${part}: ${name}, attempt ${entry?.attempts}: ${entry?.message}${last ? ` (${last})` : ""}`
  })
  return [
    ...(lines.length === 0 ? [] : ["## Failed", lines.join("\n")]),
    ...(missing.length === 0 ? [] : ["## Not run", `${missing.join(", ")}.`])
  ]
}

/** The whole page. */
export const reportOf = (records: ReadonlyArray<PartRecord>): string => {
  const [a, b, c] = parts.map((part) => records.find((record) => record.part === part))
  const { device = "cuda", tiny = false } = a ?? b ?? c ?? {}
  const devices = fieldsOf(a?.steps["loading"])["devices"]
  const kind = Array.isArray(devices) ? String((devices[0] as Fields | undefined)?.["kind"]) : "unknown"
  const note = tiny
    ? "Tiny sizes: this shows that the programs run, and no speed."
    : "Training: places of a batch a second, forward, backward and optimizer; decoding: tokens written, prompts' prefill included."
  return `${[
    "# GPU benchmark",
    `Device xla:${device}, ${kind}. ${note}`,
    "## Speeds",
    speeds(b?.steps ?? {}, c?.steps ?? {}, tiny),
    ...gaps(records),
    "## Found",
    ...checks(records)
  ].join("\n\n")}\n`
}
