/** What was thrown below a device, as the errors of a device: the same for every library but for how it words its own. */
import {
  BadFeed,
  type DeviceError,
  DeviceLost,
  deviceError,
  LoadFailed,
  OutOfMemory,
  Released,
  RunFailed,
  ShapeMismatch
} from "./DeviceError.ts"

/** A feed that does not fit; `tensor` is the input's or output's name, or null where one is missing or unknown. */
export class FeedMismatch extends Error {
  readonly tensor: string | null
  constructor(tensor: string | null, message: string) {
    super(message)
    this.tensor = tensor
  }
}

/** A program that this device cannot have, which may only be known once its sizes are. */
export class Unsuitable extends Error {}

/** A device tensor was used after its scope closed. */
export class ReleasedTensor extends Error {}

/** How a library words its failures. */
export interface NativeWords {
  /** Whether it ran out of memory. */
  readonly isMemory: (error: Error) => boolean
  /** Whether it speaks of a device that is gone, after which every call fails. */
  readonly isLost: (message: string) => boolean
  /** The part of the program that it speaks of, and its message for people; undefined for what it did not throw. */
  readonly read: (error: unknown) => { readonly node: string | null; readonly detail: string } | undefined
}

/** The error that a caller of the device sees for what was thrown; anything unknown is thrown on, as a bug. */
export const failureBy =
  ({ isLost, isMemory, read }: NativeWords) =>
  (program: string, phase: "load" | "run") =>
  (error: unknown): DeviceError => {
    if (error instanceof FeedMismatch) {
      return error.tensor === null
        ? deviceError(new BadFeed({ program, detail: error.message }))
        : deviceError(new ShapeMismatch({ program, tensor: error.tensor, detail: error.message }))
    }
    if (error instanceof ReleasedTensor) return deviceError(new Released({ what: `Tensor ${error.message}` }))
    if (error instanceof Error && (isMemory(error) || error.message.includes("Array buffer allocation failed"))) {
      return deviceError(new OutOfMemory({ what: `program ${program}`, bytes: null }))
    }
    if (error instanceof Unsuitable) return deviceError(new LoadFailed({ program, node: null, detail: error.message }))
    const native = read(error)
    if (native !== undefined) {
      if (isLost(native.detail)) {
        const what = program.startsWith("tensor ") ? program : `program ${program}`
        return deviceError(new DeviceLost({ program: what, detail: native.detail.replace(/\.$/, "") }))
      }
      const parts = { program, ...native }
      return deviceError(phase === "load" ? new LoadFailed(parts) : new RunFailed(parts))
    }
    if (error instanceof RangeError && phase === "load") {
      return deviceError(new LoadFailed({ program, node: null, detail: error.message }))
    }
    throw error
  }
