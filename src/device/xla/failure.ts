/** How XLA words its failures. */
import { AdapterBusy, type DeviceError, deviceError, LibraryMissing } from "../DeviceError.ts"
import { failureBy } from "../failure.ts"
import { isLost } from "../lost.ts"
import { codes, PjrtFailure } from "./pjrt.ts"

const isMemory = (error: Error): boolean =>
  /out of memory/i.test(error.message) ||
  // a kernel's shared memory is no matter of the batch
  (error instanceof PjrtFailure && error.code === codes.resourceExhausted && !/shared memory/i.test(error.message))

/** The error for a plugin that gives no client: whether its card is in use, or there is none for it. */
export const openFailure = (provider: string, { code, message }: PjrtFailure): DeviceError =>
  isBusy(message)
    ? deviceError(new AdapterBusy({ provider, detail: message.trim().split("\n")[0]!.replace(/\.$/, "") }))
    : deviceError(new LibraryMissing({ detail: `${provider} gives no device: ${message} (code ${code})` }))

/** What CUDA says where another process has the card to itself, or all of the memory that was asked for. */
const isBusy = (message: string): boolean =>
  /CUDA_ERROR_DEVICE_UNAVAILABLE|CUDA_ERROR_OUT_OF_MEMORY|busy or unavailable|out of memory/i.test(message)

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
  isLost,
  read: (error) =>
    error instanceof PjrtFailure
      ? {
          node: (error instanceof Refused ? error.operation : null) ?? nodeOf(error.message),
          detail: `${error.message.trim()} (code ${error.code}, ${error.call})`
        }
      : undefined
})
