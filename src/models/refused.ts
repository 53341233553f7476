/** What the file system refuses of a model's files, with the operating system's own reason and, where there is one, the remedy. */
import { Predicate } from "effect"
import { FileProblem, fail, type ModelError } from "./ModelError.ts"

const remedies: Readonly<Record<string, string>> = {
  ENOSPC: "no space is left on the device; free some and run again",
  EDQUOT: "the disk quota is used up; free some space and run again",
  EACCES: "permission is denied; make it readable and writable for this user",
  EPERM: "permission is denied; make it readable and writable for this user",
  EROFS: "the file system is read-only"
}

/** Effect's errors say "Unknown: FileSystem.writeFile"; what Node said of it is their cause. */
const reasonOf = (error: { readonly message: string; readonly cause?: unknown }): string => {
  const { cause } = error
  if (!(cause instanceof Error)) return error.message
  const code = Predicate.hasProperty(cause, "code") ? String(cause.code) : ""
  return remedies[code] ?? cause.message
}

/** A `ModelError` of a file that cannot be read, or written. */
export const refused =
  (file: string, what: "read" | "written" | "read or written") =>
  (error: { readonly message: string; readonly cause?: unknown }): ModelError =>
    fail(new FileProblem({ file, detail: `cannot be ${what}: ${reasonOf(error)}` }))
