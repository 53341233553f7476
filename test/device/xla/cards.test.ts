/** What is known of cards without one: the driver's words, shares of memory, and why there is none. */
import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { describe, expect, it } from "vitest"
import { cardBatch, shareOf, usualBatch } from "../../../src/device/microBatch.ts"
import { driver, driverProblem, driverVersion, findCards } from "../../../src/device/xla/cards.ts"
import { memoryShare, PluginAbsent } from "../../../src/device/xla/openClient.ts"
import { cudaPlugin, locatePlugin, pluginFolder, pluginOf, receiptFile } from "../../../src/device/xla/plugins.ts"
import { placesPerMicroBatch } from "../../../src/models/score.ts"
import { freshFolder } from "../../support/folders.ts"

const fresh = freshFolder("cards")

describe("a card's driver", () => {
  it("is read from the kernel module's words, open or not", () => {
    const closed =
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12"
    const open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)"
    expect([driverVersion(closed), driverVersion(open), driverVersion("something else")]).toEqual([
      "535.104.05",
      "580.65.06",
      null
    ])
  })

  it("must be there and new enough for CUDA 13", () => {
    expect(driverProblem(null)).toMatch(/no NVIDIA driver is loaded .* install version 580 or newer/)
    expect(driverProblem("535.104.05")).toMatch(/535\.104\.05 is too old: CUDA 13 needs 580 or newer/)
    expect(driverProblem("580.65.06")).toBeNull()
    expect(driverProblem("1000.1")).toBeNull()
  })
})

describe("cards", () => {
  it("that cannot be used are explained, with the command that would help", async () => {
    const found = await findCards()
    if ("missing" in locatePlugin(cudaPlugin)) {
      expect(found).toEqual({
        missing: expect.stringMatching(/xla:cuda .* is not installed; run `exp device install nvidia`/)
      })
    } else if ("missing" in found) expect(found.missing).toMatch(/driver|card/)
    else expect(found.cards.length).toBeGreaterThan(0)
  })

  it("behind a plugin that is damaged: its file is named, after the driver where that is wrong too", async () => {
    const saved = process.env["OVERTONE_CACHE"]
    process.env["OVERTONE_CACHE"] = fresh()
    try {
      const library = join(pluginFolder(cudaPlugin), cudaPlugin.library)
      mkdirSync(dirname(library), { recursive: true })
      writeFileSync(library, "half of a wheel")
      writeFileSync(join(pluginFolder(cudaPlugin), receiptFile), "{}")
      const found = await findCards()
      const missing = "missing" in found ? found.missing : ""
      expect(missing).toMatch(/xla_cuda_plugin\.so cannot be opened: /)
      const problem = driverProblem(driver())
      if (problem !== null) expect(missing.startsWith(`${problem}. `)).toBe(true)
    } finally {
      if (saved === undefined) delete process.env["OVERTONE_CACHE"]
      else process.env["OVERTONE_CACHE"] = saved
    }
  })

  it("give a task a share of their memory, nine tenths unless the environment says another", () => {
    expect([memoryShare(undefined), memoryShare(""), memoryShare("0.5"), memoryShare("1")]).toEqual([0.9, 0.9, 0.5, 1])
    for (const wrong of ["0", "1.5", "-1", "half"]) {
      expect(() => memoryShare(wrong)).toThrow(PluginAbsent)
      expect(() => memoryShare(wrong)).toThrow(/OVERTONE_GPU_MEMORY=.* above 0, at most 1/)
    }
  })

  it("have a plugin by the name of their device", () => {
    expect([pluginOf("xla:cuda"), pluginOf("xla:cpu")?.name, pluginOf("cpu")]).toEqual([cudaPlugin, "cpu", undefined])
  })
})

describe("micro-batches", () => {
  // 12 x 2048 + 4 x 11008 floats a layer and place; 36 layers: 9.88 MB a place, all kept
  const three = { hiddenSize: 2048, intermediateSize: 11_008, layers: 36 } as Parameters<typeof placesPerMicroBatch>[0]

  it("are as large as memory allows: on a CPU a thousand places at most, on a card sixteen thousand", () => {
    const small = { ...three, hiddenSize: 64, intermediateSize: 256, layers: 2 }
    expect([placesPerMicroBatch(small), placesPerMicroBatch(small, cardBatch(80e9))]).toEqual([1024, 16_384])
    // 40e9 / (4 x 36 x 68608) = 4048.6; rematerialised: 40e9 / (4 x (36 x 4096 + 68608)) = 46277
    expect(placesPerMicroBatch(three, cardBatch(80e9))).toBe(4048)
    expect(placesPerMicroBatch(three, cardBatch(80e9), true)).toBe(16_384)
    expect(placesPerMicroBatch(three)).toBe(256)
  })

  it("are halved whole: places, bytes, and the least number", () => {
    const halved = shareOf(usualBatch, 1 / 2)
    expect(halved).toEqual({ places: 512, bytes: 2 ** 29 })
    expect([placesPerMicroBatch(three, halved), placesPerMicroBatch(three, shareOf(usualBatch, 1 / 64))]).toEqual([
      128, 4
    ])
    expect(cardBatch(8e9, 4)).toEqual({ places: 65_536, bytes: 16e9 })
  })
})
