/**
 * A model folder as an artifact: its files, links followed, hidden ones left out. The hash that stands for the folder in
 * keys leaves them out too; downloaders keep times in them, which would make equal models unequal artifacts.
 */
import { cp } from "node:fs/promises"
import { relative, sep } from "node:path"
import { Effect } from "effect"

const visible = (from: string) => (file: string) =>
  !relative(from, file)
    .split(sep)
    .some((part) => part.startsWith("."))

/** Copies the folder `from` into the folder `to`, which exists. */
export const copyModel = (from: string, to: string): Effect.Effect<void> =>
  Effect.promise(() => cp(from, to, { recursive: true, dereference: true, filter: visible(from) }))
