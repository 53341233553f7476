/** TensorBoard's event files: to the byte as TensorFlow writes them. */
import { expect, it } from "vitest"
import { crc32c, eventFile } from "../../src/report/events.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

it("CRC-32C of the check string is the catalogue's", () => {
  expect(crc32c(new TextEncoder().encode("123456789"))).toBe(0xe3069283)
})

it("writes framed events", () => {
  const file = eventFile([{ tag: "loss", step: 3, value: 0.5 }], 1)
  // Event 1: 09 <double 1> 1a 0d "brain.Event:2" = 24 bytes. Event 2: 09 <double 1> 10 03 2a 0d { 0a 0b { 0a 04 "loss" 15 <float 0.5> } }.
  const first = "09000000000000f03f1a0d627261696e2e4576656e743a32"
  const second = "09000000000000f03f10032a0d0a0b0a046c6f7373150000003f"
  expect(hex(file.subarray(0, 8))).toBe("1800000000000000")
  expect(hex(file.subarray(12, 36))).toBe(first)
  expect(hex(file.subarray(40, 48))).toBe("1a00000000000000")
  expect(hex(file.subarray(52, 78))).toBe(second)
  expect(file.length).toBe(24 + 16 + 26 + 16)
  // The masked checksum of the length 24, which every event file of TensorFlow begins with.
  expect(hex(file.subarray(8, 12))).toBe("a37f4b22")
})

it("keeps what was no number", () => {
  const file = eventFile([{ tag: "a", step: 0, value: Number.NaN }], 0)
  expect(hex(file)).toContain("150000c07f")
})
