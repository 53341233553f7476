/**
 * What an experiment says about its own cells, nodes and metrics: baseline, `seeds.vary`, report and gates.
 */
import { canonicalJson } from "./canonical.ts"
import type { Chain } from "./chain.ts"
import { glob } from "./glob.ts"
import { child, type Located, plain } from "./located.ts"
import type { Gate, Variant } from "./Planned.ts"
import { expand, flatten } from "./params.ts"
import { didYouMean, type Place, type Problem, problemAt } from "./problems.ts"
import type { TaskNode } from "./Stage.ts"
import type { Point, Sweep } from "./sweep.ts"

type Spot = Variant & { readonly values: Point }

export interface References {
  readonly baseline: Readonly<Record<string, string>>
  readonly gates: ReadonlyArray<Gate>
  readonly problems: ReadonlyArray<Problem>
}

/** @param sure whether `tasks` shows every arm's graph, so that an unknown name is a fault. */
export const checkReferences = (given: {
  readonly chain: Chain
  readonly variants: ReadonlyArray<Spot>
  readonly tasks: ReadonlyArray<TaskNode>
  readonly sure: boolean
  readonly sweep: Sweep | undefined
}): References => {
  const { chain, variants, tasks, sure } = given
  const problems: Array<Problem> = []
  const itemAt = (node: Located | undefined, i: number, fallback: Place): Located | { readonly at: Place } =>
    (node?._tag === "List" ? node.items[i] : undefined) ?? { at: fallback }

  const vary = chain.seedsNode === undefined ? undefined : child(chain.seedsNode, "vary")?.value
  const nodes = new Set(tasks.map((task) => task.node))
  const seeded = new Set(tasks.filter((task) => task.stage.seeded).map((task) => task.node))
  for (const [i, name] of (chain.seeds.vary ?? []).entries()) {
    if (seeded.has(name) || !sure) continue
    const place = itemAt(vary, i, chain.top).at
    if (nodes.has(name))
      problems.push(problemAt(place, `node ${name} uses no seed`, `seeded nodes: ${[...seeded].join(", ")}`))
    else {
      const guess = didYouMean(name, seeded) ?? `seeded nodes: ${[...seeded].join(", ")}`
      problems.push(problemAt(place, `no pipeline of this experiment has a node ${name}`, guess))
    }
  }

  const items = [...new Set(tasks.flatMap(({ stage }) => Object.keys(stage.items)))]
  const stepMetrics = [...new Set(tasks.flatMap(({ stage }) => Object.keys(stage.metrics)))]
  const among = (name: string, known: ReadonlyArray<string>) =>
    known.some((other) => glob(name).test(other) || glob(other).test(name))
  const checkMetric = (name: string, place: Place) => {
    if (!sure || among(name, items)) return
    problems.push(
      among(name, stepMetrics)
        ? problemAt(
            place,
            `${name} is a metric of a stage's steps; arms are compared by per-prompt results`,
            `after the run ask exp compare --metric NODE:${name}; a report may name ${items.join(", ")}`
          )
        : problemAt(place, `no stage of this experiment has a metric ${name}`, didYouMean(name, items))
    )
  }
  const metricsNode = chain.reportNode === undefined ? undefined : child(chain.reportNode, "metrics")?.value
  for (const [i, name] of (chain.report.metrics ?? []).entries())
    checkMetric(name, itemAt(metricsNode, i, chain.top).at)

  const labels = variants.map((v) => v.arm)
  const names = [...new Set(variants.flatMap((v) => v.armName ?? []))]
  const gatesNode = chain.reportNode === undefined ? undefined : child(chain.reportNode, "gates")?.value
  const gates = (chain.report.gates ?? []).flatMap((gate, i): ReadonlyArray<Gate> => {
    const node = itemAt(gatesNode, i, chain.top)
    const at = (key: string) => ("_tag" in node ? (child(node, key)?.value.at ?? node.at) : node.at)
    checkMetric(gate.metric, at("metric"))
    const meant =
      gate.arm === undefined
        ? [null]
        : variants.filter((v) => v.arm === gate.arm || v.armName === gate.arm).map((v) => v.arm)
    if (meant.length === 0 && sure)
      problems.push(problemAt(at("arm"), `no arm ${gate.arm}`, didYouMean(gate.arm ?? "", [...names, ...labels])))
    return meant.map((arm) => ({
      metric: gate.metric,
      arm,
      of: gate.of ?? "value",
      min: gate.min ?? null,
      max: gate.max ?? null
    }))
  })

  const baseline = readBaseline(given, names, problems)
  return { baseline, gates, problems }
}

/** For each variant the one that it is compared with. */
const readBaseline = (
  { chain, variants, sure, sweep }: Parameters<typeof checkReferences>[0],
  names: ReadonlyArray<string>,
  problems: Array<Problem>
): Readonly<Record<string, string>> => {
  const entry = chain.baseline
  if (entry === undefined) return {}
  const node = entry.value
  let arm: string | undefined
  let values: Point = new Map()
  if (node._tag === "Leaf" && typeof node.value === "string") {
    const whole = variants.find((v) => v.arm === node.value)
    if (whole !== undefined && whole.point !== null) return others(variants, () => whole)
    if (whole !== undefined && whole.armName === null) return others(variants, () => whole)
    arm = node.value
  } else if (node._tag === "Map") {
    const opened = expand(node)
    problems.push(...opened.problems)
    const leaves = new Map(flatten(opened.value))
    const named = leaves.get("arm")
    if (named !== undefined) arm = String(plain(named.value))
    leaves.delete("arm")
    values = leaves
  }
  const known = chain.arms.size === 0 ? names : [...chain.arms.keys()]
  if (arm !== undefined && !known.includes(arm)) {
    const place = child(node, "arm")?.value.at ?? node.at
    const hint = didYouMean(arm, [...known, ...variants.map((v) => v.arm)])
    if (sure || chain.arms.size > 0)
      problems.push(
        problemAt(
          place,
          `the baseline ${arm} is no arm`,
          hint ?? (known.length > 0 ? `arms: ${known.join(", ")}` : null)
        )
      )
    return {}
  }
  for (const [axis, { key, value }] of values) {
    const axes = [...(sweep?.axes.keys() ?? [])]
    if (!axes.includes(axis)) {
      problems.push(problemAt(key, `${axis} is no axis of the sweep`, didYouMean(axis, axes)))
      return {}
    }
    const there = new Map(
      (sweep?.points ?? [])
        .flatMap((p) => p.get(axis) ?? [])
        .map((e) => [canonicalJson(plain(e.value)), plain(e.value)])
    )
    if (!there.has(canonicalJson(plain(value)))) {
      problems.push(
        problemAt(
          value.at,
          `no point of the sweep has this ${axis}`,
          `it has ${[...there.values()].map(String).join(", ")}`
        )
      )
      return {}
    }
  }
  const text = (point: Point) =>
    canonicalJson(Object.fromEntries([...point].map(([axis, e]) => [axis, plain(e.value)])))
  const found = others(variants, (v) => {
    const wanted = arm ?? v.armName
    return variants.find((other) => {
      if (other.armName !== wanted) return false
      const point = new Map([...v.values, ...values].filter(([axis]) => other.values.has(axis)))
      return (
        text(
          new Map(
            [...other.values.keys()].flatMap((axis) => (point.has(axis) ? [[axis, point.get(axis)!] as const] : []))
          )
        ) === text(other.values)
      )
    })
  })
  if (sure && Object.keys(found).length === 0 && variants.length > 1) {
    problems.push(
      problemAt(node.at, "no cell has the baseline to compare with", "choose values that the sweep has together")
    )
  }
  return found
}

const others = (variants: ReadonlyArray<Spot>, of: (v: Spot) => Spot | undefined): Readonly<Record<string, string>> =>
  Object.fromEntries(
    variants.flatMap((v) => {
      const base = of(v)
      return base === undefined || base.arm === v.arm ? [] : [[v.arm, base.arm] as const]
    })
  )
