/** How XLA words its failures. */
import { failureBy } from "../failure.ts"
import { codes, PjrtFailure } from "./pjrt.ts"

const isMemory = (error: Error): boolean =>
  /out of memory/i.test(error.message) ||
  // a kernel's shared memory is no matter of the batch
  (error instanceof PjrtFailure && error.code === codes.resourceExhausted && !/shared memory/i.test(error.message))

/** The operation that a message of XLA speaks of. */
const nodeOf = (message: string): string | null => /'((?:stablehlo|chlo|mhlo)\.[a-z_]+)' op/.exec(message)?.[1] ?? null

/** The error that a caller of the device sees for what was thrown; anything unknown is thrown on, as a bug. */
export const deviceFailure = failureBy({
  isMemory,
  read: (error) =>
    error instanceof PjrtFailure
      ? { node: nodeOf(error.message), detail: `${error.message.trim()} (code ${error.code}, ${error.call})` }
      : undefined
})
