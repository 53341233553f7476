/** How XLA words its failures. */
import { failureBy } from "../failure.ts"
import { codes, PjrtFailure } from "./pjrt.ts"

const isMemory = (error: Error): boolean =>
  /out of memory/i.test(error.message) ||
  // a kernel's shared memory is no matter of the batch
  (error instanceof PjrtFailure && error.code === codes.resourceExhausted && !/shared memory/i.test(error.message))

/** A module that the plugin refuses, with the operation of ours that the refused line was written for. */
export class Refused extends PjrtFailure {
  readonly operation: string | null

  /** @param labelOf the operation behind a line of the module's text */
  constructor({ call, code, message }: PjrtFailure, text: string, labelOf: (line: number) => string | undefined) {
    const line = Number(/^[^\s:]+:(\d+):\d+: error: /m.exec(message)?.[1] ?? 0)
    const quoted = line === 0 ? "" : `\nline ${line}: ${text.split("\n")[line - 1]?.trim().slice(0, 300)}`
    super(call, code, `${message.trim()}${quoted}`)
    this.operation = labelOf(line) ?? null
  }
}

/** The operation that a message of XLA speaks of. */
const nodeOf = (message: string): string | null => /'((?:stablehlo|chlo|mhlo)\.[a-z_]+)' op/.exec(message)?.[1] ?? null

/** The error that a caller of the device sees for what was thrown; anything unknown is thrown on, as a bug. */
export const deviceFailure = failureBy({
  isMemory,
  read: (error) =>
    error instanceof PjrtFailure
      ? {
          node: (error instanceof Refused ? error.operation : null) ?? nodeOf(error.message),
          detail: `${error.message.trim()} (code ${error.code}, ${error.call})`
        }
      : undefined
})
