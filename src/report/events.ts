/**
 * TensorBoard's event files. There is no maintained npm package that writes them, and the format is small: records
 *
 *     length uint64 | masked CRC-32C of length | bytes | masked CRC-32C of bytes        little-endian
 *
 * whose bytes are `Event` messages (tensorflow/core/util/event.proto), the first with `file_version: "brain.Event:2"`, the
 * others one scalar each (`summary.value { tag, simple_value }`). mask(c) = (c rotated right by 15) + 0xa282ead8.
 */
import protobuf from "protobufjs"

const { root } = protobuf.parse(`
  syntax = "proto3";
  message Value { string tag = 1; float simple_value = 2; }
  message Summary { repeated Value value = 1; }
  message Event { double wall_time = 1; int64 step = 2; oneof what { string file_version = 3; Summary summary = 5; } }
`)
const Event = root.lookupType("Event")

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1
  return c >>> 0
})

/** CRC-32C (Castagnoli) of some bytes. */
export const crc32c = (bytes: Uint8Array): number => {
  let c = 0xffffffff
  for (const byte of bytes) c = (c >>> 8) ^ table[(c ^ byte) & 0xff]!
  return (c ^ 0xffffffff) >>> 0
}

const masked = (bytes: Uint8Array): number => {
  const c = crc32c(bytes)
  return (((c >>> 15) | (c << 17)) + 0xa282ead8) >>> 0
}

const record = (message: object): Uint8Array => {
  const bytes = Event.encode(Event.create(message)).finish()
  const out = new Uint8Array(bytes.length + 16)
  const view = new DataView(out.buffer)
  view.setBigUint64(0, BigInt(bytes.length), true)
  view.setUint32(8, masked(out.subarray(0, 8)), true)
  out.set(bytes, 12)
  view.setUint32(12 + bytes.length, masked(bytes), true)
  return out
}

/** A number that a metric had at a step; NaN where it was none. */
export interface Scalar {
  readonly tag: string
  readonly step: number
  readonly value: number
}

/**
 * The bytes of an event file.
 * @param wallTime seconds since 1970, of all of it
 */
export const eventFile = (scalars: ReadonlyArray<Scalar>, wallTime: number): Uint8Array => {
  const records = [
    record({ wallTime, fileVersion: "brain.Event:2" }),
    ...scalars.map(({ tag, step, value }) =>
      record({ wallTime, step, summary: { value: [{ tag, simpleValue: value }] } })
    )
  ]
  const out = new Uint8Array(records.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const one of records) {
    out.set(one, at)
    at += one.length
  }
  return out
}
