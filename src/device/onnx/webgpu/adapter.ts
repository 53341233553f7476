/**
 * Whether this machine has an adapter for WebGPU, and which. A process of its own looks: drivers that are broken abort, and
 * whoever asks goes on.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { LibraryAbsent, openRuntime } from "../runtime.ts"
import { AdapterAbsent, openGpu } from "./Gpu.ts"
import type { Adapter } from "./vulkan.ts"

/** What was found, or the sentence that says why nothing was. */
export type Found = { readonly adapter: Adapter } | { readonly missing: string }

const remedy =
  "WebGPU needs a graphics card whose driver speaks Vulkan, Metal or Direct3D 12; `exp doctor` says what is here"
const probeTimeoutMs = 60_000

/** Looks for the adapter. Never rejects. */
export const findAdapter = (): Promise<Found> =>
  new Promise((resolve) => {
    const file = fileURLToPath(import.meta.url)
    const options = { timeout: probeTimeoutMs, maxBuffer: 2 ** 24 }
    execFile(process.execPath, ["--disable-warning=ExperimentalWarning", file], options, (error, stdout) => {
      const said = /^found (.*)$/m.exec(stdout)?.[1]
      if (said !== undefined) resolve(JSON.parse(said))
      else
        resolve({
          missing: `looking for an adapter failed: ${error?.message.split("\n")[0] ?? "no answer"}; ${remedy}`
        })
    })
  })

const look = (): Found => {
  try {
    return { adapter: openGpu(openRuntime(1)).adapter }
  } catch (error) {
    if (error instanceof AdapterAbsent || error instanceof LibraryAbsent)
      return { missing: `${error.message}; ${remedy}` }
    throw error
  }
}

if (import.meta.main) {
  process.stdout.write(`found ${JSON.stringify(look())}\n`, () => process.exit(0))
}
