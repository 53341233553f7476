/** Failures of XLA and of feeds, as the errors of a device. */
import {
  BadFeed,
  type DeviceError,
  deviceError,
  LoadFailed,
  OutOfMemory,
  Released,
  RunFailed,
  ShapeMismatch
} from "../DeviceError.ts"
import { codes, PjrtFailure } from "./pjrt.ts"

/** A feed that does not fit; `tensor` is the input's or output's name, or null where one is missing or unknown. */
export class FeedMismatch extends Error {
  readonly tensor: string | null
  constructor(tensor: string | null, message: string) {
    super(message)
    this.tensor = tensor
  }
}

/** A device tensor was used after its scope closed. */
export class ReleasedTensor extends Error {}

const isMemory = (error: Error): boolean =>
  (error instanceof PjrtFailure && error.code === codes.resourceExhausted) ||
  /out of memory|Out of memory|Array buffer allocation failed/.test(error.message)

/** The operation that a message of XLA speaks of. */
const nodeOf = (message: string): string | null => /'((?:stablehlo|chlo|mhlo)\.[a-z_]+)' op/.exec(message)?.[1] ?? null

/** The error that a caller of the device sees for what was thrown; anything unknown is thrown on, as a bug. */
export const deviceFailure =
  (program: string, phase: "load" | "run") =>
  (error: unknown): DeviceError => {
    if (error instanceof FeedMismatch) {
      return error.tensor === null
        ? deviceError(new BadFeed({ program, detail: error.message }))
        : deviceError(new ShapeMismatch({ program, tensor: error.tensor, detail: error.message }))
    }
    if (error instanceof ReleasedTensor) return deviceError(new Released({ what: `Tensor ${error.message}` }))
    if (error instanceof Error && isMemory(error)) {
      return deviceError(new OutOfMemory({ what: `program ${program}`, bytes: null }))
    }
    if (error instanceof PjrtFailure) {
      const parts = {
        program,
        node: nodeOf(error.message),
        detail: `${error.message.trim()} (code ${error.code}, ${error.call})`
      }
      return deviceError(phase === "load" ? new LoadFailed(parts) : new RunFailed(parts))
    }
    if (error instanceof RangeError && phase === "load") {
      return deviceError(new LoadFailed({ program, node: null, detail: error.message }))
    }
    throw error
  }
