/**
 * From failures to exit codes and paragraphs. A typed error is one clear paragraph with its remedy and no stack; a bug
 * is its cause and where to report it. The codes are promised to scripts: docs/cli.md.
 */
import { Cause, Data, Predicate } from "effect"
import { CliError } from "effect/cli"

export const Code = {
  ok: 0,
  internal: 1,
  usage: 2,
  invalid: 3,
  tasksFailed: 4,
  gateFailed: 5,
  interrupted: 130
} as const

export type Code = (typeof Code)[keyof typeof Code]

/** What a command fails with when it has said on its own terms what is wrong. An empty message: it has said all. */
export class CommandFailed extends Data.TaggedError("CommandFailed")<{
  readonly code: Code
  readonly message: string
}> {}

export const usage = (message: string): CommandFailed => new CommandFailed({ code: Code.usage, message })

/** The command has printed what there is to print; only the exit code is left. */
export const silently = (code: Code): CommandFailed => new CommandFailed({ code, message: "" })

export interface Report {
  readonly code: Code
  /** For stderr; empty when everything has been said. */
  readonly text: string
}

const issues = "Please report it with the command and what stands above: the project's issue tracker."

/** Boundary errors of other parts, by tag; whatever is typed and not here is `internal` with its message. */
const codes: Readonly<Record<string, Code>> = {
  InvalidExperiment: Code.invalid,
  InvalidExecutor: Code.invalid,
  WarehouseInUse: Code.usage,
  QueryRefused: Code.usage,
  DeviceAbsent: Code.usage
}

const codeOf = (error: unknown): Code =>
  Predicate.hasProperty(error, "_tag") && typeof error._tag === "string"
    ? (codes[error._tag] ?? Code.internal)
    : Code.internal

/** What an unsuccessful end of a command comes to. */
export const report = (cause: Cause.Cause<unknown>): Report => {
  if (Cause.hasInterruptsOnly(cause)) return { code: Code.interrupted, text: "" }
  const failure = cause.reasons.find(Cause.isFailReason)
  if (failure === undefined || !(failure.error instanceof Error)) {
    return { code: Code.internal, text: `exp: this is a bug in Overtone.\n${Cause.pretty(cause)}\n${issues}` }
  }
  const error = failure.error
  if (error instanceof CommandFailed)
    return { code: error.code, text: error.message === "" ? "" : `exp: ${error.message}` }
  // The parser's presenter has printed help or the usage error already.
  if (CliError.isCliError(error)) {
    return { code: error._tag === "ShowHelp" && error.errors.length === 0 ? Code.ok : Code.usage, text: "" }
  }
  return { code: codeOf(error), text: `exp: ${error.message}` }
}
