/**
 * Training that goes on. A stage whose parameter `steps` only says when it stops can take up what a run with fewer steps
 * left, everything else equal, and end at the same bytes as if it had run undisturbed. Such runs are a *family*: equal but
 * for that parameter, inputs by their bytes. Keys know nothing of it: they name the result, not the way to it.
 */
import type { Json } from "./canonical.ts"
import { contentKey, type KeyParts } from "./key.ts"
import { isRecord } from "./reasons.ts"
import type { AnyStage } from "./Stage.ts"

/** Of a stage's task: how far it goes, and why it cannot take up a shorter run, where it cannot. */
export interface Growth {
  readonly param: string
  readonly steps: number
  readonly because: string | null
}

/** Null for a stage that cannot grow, or for no steps. */
export const growthOf = ({ grows }: AnyStage, params: unknown): Growth | null => {
  if (grows === null || typeof params !== "object" || params === null) return null
  const steps: unknown = Reflect.get(params, grows.param)
  if (typeof steps !== "number" || steps <= 0) return null
  return { param: grows.param, steps, because: grows.unless(params as never) }
}

/**
 * What all runs of a family have in common: the content key with the number of steps left open.
 * @param inputs for each input the SHA-256 of the artifact it is.
 */
export const familyKey = (parts: KeyParts, param: string, inputs: Readonly<Record<string, string>>): string =>
  contentKey({ ...parts, params: open(parts.params, param) }, inputs)

const open = (params: Json, param: string): Json => (isRecord(params) ? { ...params, [param]: null } : params)
