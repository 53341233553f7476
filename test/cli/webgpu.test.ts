/** `--device webgpu` where no driver offers an adapter: said before anything starts. */
import { existsSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { afterAll, beforeAll, vi } from "vitest"
import { main } from "../../src/main.ts"

const home = mkdtempSync(join(tmpdir(), "overtone-cli-webgpu-"))

// Vulkan's loader takes the drivers that these name, and no others
describe.skipIf(process.platform !== "linux")("WebGPU without an adapter", () => {
  beforeAll(() => {
    vi.stubEnv("VK_ICD_FILENAMES", join(home, "none.json"))
    vi.stubEnv("VK_DRIVER_FILES", join(home, "none.json"))
  })
  afterAll(() => {
    vi.unstubAllEnvs()
    rmSync(home, { recursive: true, force: true })
  })

  it.live("a bound that is none is said before any task", () =>
    Effect.gen(function* () {
      vi.stubEnv("OVERTONE_WEBGPU_FALLBACKS", "many")
      const climb = join(import.meta.dirname, "project", "experiments", "climb.yaml")
      const warehouse = join(home, "bound")
      const code = yield* main(["--warehouse", warehouse, "run", climb, "--device", "webgpu"])
      vi.stubEnv("OVERTONE_WEBGPU_FALLBACKS", "")
      const said = (yield* TestConsole.errorLines).join("\n")
      assert.strictEqual(code, 2, said)
      assert.match(
        said,
        /device webgpu: OVERTONE_WEBGPU_FALLBACKS=many is no number of nodes: write a whole number, or any/
      )
      assert.isFalse(existsSync(warehouse))
    }).pipe(Effect.provide(TestConsole.layer))
  )

  it.live("a run ends with exit 2 before any task, a plan needs no adapter", () =>
    Effect.gen(function* () {
      const climb = join(import.meta.dirname, "project", "experiments", "climb.yaml")
      const warehouse = join(home, "store")
      const code = yield* main(["--warehouse", warehouse, "run", climb, "--device", "webgpu", "--json"])
      const said = (yield* TestConsole.errorLines).join("\n")
      assert.strictEqual(code, 2, said)
      assert.match(said, /device webgpu: Failed to get a WebGPU adapter.*exp doctor/)
      assert.isFalse(existsSync(warehouse))
      assert.strictEqual(yield* main(["--warehouse", warehouse, "plan", climb, "--device", "webgpu"]), 0)
    }).pipe(Effect.provide(TestConsole.layer))
  )
})
