/**
 * Why a task that ran before would run again: what it is now against what its cell's node was bound to.
 */

import { classText, type NumericClass } from "../device/numericClass.ts"
import { canonicalJson, type Json } from "./canonical.ts"
import type { CodeManifest, PlannedTask, PreviousTask, Reason } from "./Planned.ts"

type Now = Pick<PlannedTask, "key" | "version" | "keyParams" | "inputs" | "seed" | "class" | "code">

export interface Gaps {
  /** Outputs that were made and are gone: name and hash. */
  readonly lost: ReadonlyArray<readonly [output: string, sha256: string]>
  /** Inputs whose maker runs first. */
  readonly unmade: ReadonlyArray<string>
  /** The project's own package: its files are named without it. */
  readonly ownPackage: string | undefined
}

/** @param previous the tasks bound before, by node; none where the task is new (or cached). */
export const reasonsFor = (
  now: Now,
  previous: ReadonlyArray<{ readonly node: string; readonly task: PreviousTask }>,
  gaps: Gaps
): ReadonlyArray<Reason> => {
  const reasons = previous.flatMap(({ node, task }) => differences(now, node, task, gaps))
  const missing = gaps.lost.map(([path, sha256]): Reason => ({ kind: "missing", path, old: sha256, new: null }))
  const all = [...reasons, ...missing]
  if (all.length === 0 && previous.length > 0) {
    all.push({ kind: "missing", path: "realisation", old: previous[0]!.task.key, new: null })
  }
  return [...new Map(all.map((reason) => [canonicalJson(reason), reason])).values()]
}

const differences = (
  now: Now,
  node: string,
  old: PreviousTask,
  { unmade, ownPackage }: Gaps
): ReadonlyArray<Reason> => {
  const reasons: Array<Reason> = []
  if (old.version !== now.version) {
    reasons.push({ kind: "version", path: node, old: old.version, new: now.version })
  }
  for (const [path, before, after] of leafDifferences(old.params, now.keyParams, node)) {
    reasons.push({ kind: "param", path, old: before, new: after })
  }
  if (old.seed !== now.seed) reasons.push({ kind: "param", path: `${node}.seed`, old: old.seed, new: now.seed })
  if (canonicalJson(old.class) !== canonicalJson(now.class)) {
    reasons.push({ kind: "class", path: node, old: shownClass(old.class), new: shownClass(now.class) })
  }
  reasons.push(...codeDifferences(now.code, old, ownPackage))
  for (const [name, input] of Object.entries(now.inputs)) {
    const before = old.inputs[name]
    if (unmade.includes(name) || before === undefined || before.task !== input.task || before.output !== input.output) {
      reasons.push({ kind: "input", path: name, old: before?.task ?? null, new: input.task })
    }
  }
  return reasons
}

const shownClass = (c: NumericClass | null): string | null => (c === null ? null : classText(c))

const codeDifferences = (
  now: CodeManifest,
  { codeDigest, code }: PreviousTask,
  ownPackage: string | undefined
): ReadonlyArray<Reason> => {
  const shown = (path: string) =>
    ownPackage !== undefined && path.startsWith(`${ownPackage}/`) ? path.slice(ownPackage.length + 1) : path
  if (codeDigest === null || codeDigest === now.digest) return []
  const changed = (
    old: Readonly<Record<string, string>>,
    fresh: Readonly<Record<string, string>>
  ): ReadonlyArray<Reason> =>
    [...new Set([...Object.keys(old), ...Object.keys(fresh)])]
      .sort()
      .filter((path) => old[path] !== fresh[path])
      .map((path) => ({ kind: "code", path: shown(path), old: old[path] ?? null, new: fresh[path] ?? null }))
  const named = code === null ? [] : [...changed(code.files, now.files), ...changed(code.packages, now.packages)]
  return named.length > 0 ? named : [{ kind: "code", path: "code", old: codeDigest, new: now.digest }]
}

/** The leaves in which two JSON values differ, by dotted path. */
export const leafDifferences = (
  old: Json | undefined,
  now: Json | undefined,
  path: string
): ReadonlyArray<readonly [path: string, old: Json, now: Json]> => {
  if (isRecord(old) && isRecord(now)) {
    return [...new Set([...Object.keys(old), ...Object.keys(now)])].flatMap((key) =>
      leafDifferences(old[key], now[key], `${path}.${key}`)
    )
  }
  const equal = old === undefined || now === undefined ? old === now : canonicalJson(old) === canonicalJson(now)
  return equal ? [] : [[path, old ?? null, now ?? null]]
}

export const isRecord = (value: Json | undefined): value is { readonly [key: string]: Json } =>
  typeof value === "object" && value !== null && !Array.isArray(value)
