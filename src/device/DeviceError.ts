/** What can go wrong between a program and a device: one error with a reason. */

import { Schema } from "effect"

/** The library that drives the device is not there or cannot be opened. */
export class LibraryMissing extends Schema.TaggedError<LibraryMissing>()("LibraryMissing", { detail: Schema.String }) {
  override get message() {
    return `The device's library is missing: ${this.detail}`
  }
}

/** The library is there, the hardware that it should drive is not. */
export class AdapterMissing extends Schema.TaggedError<AdapterMissing>()("AdapterMissing", { detail: Schema.String }) {
  override get message() {
    return `There is no adapter for the device: ${this.detail}`
  }
}

/** The hardware is there, and somebody else has it or its memory. */
export class AdapterBusy extends Schema.TaggedError<AdapterBusy>()("AdapterBusy", {
  provider: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return (
      `The card of ${this.provider} is in use: ${this.detail}. \`nvidia-smi\` names the processes that have it: end them, take ` +
      "other cards (`cards` in an executor file, CUDA_VISIBLE_DEVICES), or less of its memory (`memoryShare`, OVERTONE_GPU_MEMORY)."
    )
  }
}

/** The hardware went away, or gave up, in mid-run: this process can compute nothing on it any more. */
export class DeviceLost extends Schema.TaggedError<DeviceLost>()("DeviceLost", {
  program: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return (
      `The device was lost while ${this.program} ran, and with it all that it held: ${this.detail}. The next run goes on from ` +
      "the last checkpoint; on NVIDIA's cards `nvidia-smi` and the kernel's log (`dmesg`, Xid) say what became of it."
    )
  }
}

/** The program could not be made ready; `node` is the part of it that was refused, where the library says so. */
export class LoadFailed extends Schema.TaggedError<LoadFailed>()("LoadFailed", {
  program: Schema.String,
  node: Schema.NullOr(Schema.String),
  detail: Schema.String
}) {
  override get message() {
    return `Program ${this.program} cannot be loaded${this.node ? ` (at ${this.node})` : ""}: ${this.detail}`
  }
}

/** A run broke off; what its outputs hold is undefined. */
export class RunFailed extends Schema.TaggedError<RunFailed>()("RunFailed", {
  program: Schema.String,
  node: Schema.NullOr(Schema.String),
  detail: Schema.String
}) {
  override get message() {
    return `Program ${this.program} failed${this.node ? ` at ${this.node}` : ""}: ${this.detail}`
  }
}

/** A tensor does not fit where it was given. */
export class ShapeMismatch extends Schema.TaggedError<ShapeMismatch>()("ShapeMismatch", {
  program: Schema.String,
  tensor: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.tensor} of ${this.program}: ${this.detail}`
  }
}

/** An input without a value, or a value without an input. */
export class BadFeed extends Schema.TaggedError<BadFeed>()("BadFeed", {
  program: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `Program ${this.program}: ${this.detail}`
  }
}

/** A tensor or a program was used after its scope closed. */
export class Released extends Schema.TaggedError<Released>()("Released", { what: Schema.String }) {
  override get message() {
    return `${this.what} was used after its scope closed.`
  }
}

/** `bytes` are those of one tensor that is larger than the device; null where it is a question of how much at once. */
export class OutOfMemory extends Schema.TaggedError<OutOfMemory>()("OutOfMemory", {
  what: Schema.String,
  bytes: Schema.NullOr(Schema.Finite)
}) {
  override get message() {
    const size = this.bytes === null ? "" : ` (${this.bytes} bytes)`
    return `Not enough memory for ${this.what}${size}; use a smaller batch or fewer tensors at once.`
  }
}

/** The devices cannot be arranged, or a model not be laid out over them, as was asked. */
export class MeshUnfit extends Schema.TaggedError<MeshUnfit>()("MeshUnfit", {
  mesh: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `Mesh ${this.mesh}: ${this.detail}`
  }
}

export const DeviceErrorReason = Schema.Union([
  LibraryMissing,
  AdapterMissing,
  AdapterBusy,
  DeviceLost,
  LoadFailed,
  RunFailed,
  ShapeMismatch,
  BadFeed,
  Released,
  OutOfMemory,
  MeshUnfit
])
export type DeviceErrorReason = typeof DeviceErrorReason.Type

export class DeviceError extends Schema.TaggedError<DeviceError>()("DeviceError", { reason: DeviceErrorReason }) {
  override get message() {
    return this.reason.message
  }
}

export const deviceError = (reason: DeviceErrorReason): DeviceError => new DeviceError({ reason })
