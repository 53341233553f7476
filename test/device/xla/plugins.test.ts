/** The table of plugins: pinned wheels, a device each, other makers' ones too, which are installed alike and run by nobody here. */
import { expect, it } from "vitest"
import { devices } from "../../../src/cli/root.ts"
import { numericClassOf } from "../../../src/device/classOf.ts"
import { installPlugin } from "../../../src/device/xla/install/installPlugin.ts"
import { installable, installCommand, isGpu, pluginFolder, pluginOf, plugins } from "../../../src/device/xla/plugins.ts"
import { deviceNames } from "../../../src/dsl/executor.ts"
import { slotsOf } from "../../../src/runner/supervisor.ts"

it("every wheel is pinned by version and SHA-256, every folder belongs to one plugin", () => {
  const all = Object.values(installable)
  for (const { host, library, version, wheels } of all) {
    expect(wheels.length).toBeGreaterThan(0)
    expect(wheels.some((wheel) => wheel.version === version)).toBe(true)
    for (const { file, sha256 } of wheels) {
      expect(sha256).toMatch(/^[0-9a-f]{64}$/)
      expect(file).toMatch(host === undefined ? /manylinux.*x86_64\.whl$/ : /macosx.*arm64\.whl$/)
    }
    expect(library).toMatch(host === undefined ? /\.so$/ : /\.dylib$/)
  }
  expect(new Set(all.map(pluginFolder)).size).toBe(all.length)
})

it("each is behind a device that --device and an executor file may name", () => {
  expect([...devices]).toEqual([...deviceNames])
  expect(plugins.map(({ provider }) => provider)).toEqual(devices.filter((name) => name.startsWith("xla:")))
  for (const plugin of plugins) expect(pluginOf(plugin.provider)).toBe(plugin)
})

it("other makers' are marked, have the same command and a class of their own, and one task at a time", () => {
  const others = plugins.filter(({ untried }) => untried !== undefined)
  expect(others.map(installCommand)).toEqual([
    "exp device install amd",
    "exp device install intel",
    "exp device install tpu",
    "exp device install apple"
  ])
  expect(others.filter(isGpu).map(({ name }) => name)).toEqual(["rocm", "oneapi"])
  for (const { provider, version } of others) {
    const asked = numericClassOf({ threads: 2, dtype: "bf16" }, provider)
    expect(asked).toMatchObject({ provider, threads: null })
    expect(asked.runtime).toContain(`xla ${version} (`)
    expect(slotsOf({ tasks: [{ class: asked }] }, { cores: 16, jobs: 4 })).toBe(1)
  }
})

it("one for another system is refused before anything is fetched", async () => {
  const elsewhere = { ...installable["cpu"]!, name: "metal" as const, host: "plan9-mips" }
  await expect(installPlugin(elsewhere)).rejects.toThrow(
    new RegExp(`the pinned wheels of xla:cpu are for plan9-mips, not ${process.platform}-${process.arch}`)
  )
})
