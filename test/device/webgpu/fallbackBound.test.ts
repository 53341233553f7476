import { expect, it } from "vitest"
import { BadBound, fallbackBound } from "../../../src/device/onnx/webgpu/fallbackBound.ts"

it("the nodes that may run on the CPU are 8, as many as are allowed, or any", () => {
  expect([undefined, "", " ", "0", " 12 ", "any"].map((text) => fallbackBound(text ?? ""))).toEqual([
    8,
    8,
    8,
    0,
    12,
    Number.POSITIVE_INFINITY
  ])
  for (const text of ["-1", "1.5", "all", "1e3"]) {
    expect(() => fallbackBound(text)).toThrow(BadBound)
    expect(() => fallbackBound(text)).toThrow(`OVERTONE_WEBGPU_FALLBACKS=${text} is no number of nodes`)
  }
})
