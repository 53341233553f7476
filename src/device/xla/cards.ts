/**
 * The NVIDIA cards that `--device xla:cuda` would compute on, as its plugin sees them, and the driver as the kernel names it.
 */
import { existsSync, readFileSync } from "node:fs"
import { look, type Missing, tellFound } from "../look.ts"
import { Client } from "./Client.ts"
import { openFailure } from "./failure.ts"
import { memoryShare, openPlugin, PluginAbsent } from "./openClient.ts"
import { type OptionValue, PjrtFailure } from "./pjrt.ts"
import { cudaPlugin, locatePlugin } from "./plugins.ts"

export interface Cards {
  readonly cards: ReadonlyArray<{
    /** As `NVIDIA H100 80GB HBM3`. */
    readonly kind: string
    /** Bytes that the plugin may use; null where it does not say. */
    readonly memory: number | null
  }>
}

/** The oldest driver that CUDA 13 runs on (CUDA 13 release notes, table 2). */
export const oldestDriver = 580
const driverFile = "/proc/driver/nvidia/version"

/** The version in the kernel module's own words, as `580.65.06`; null where there is none. */
export const driverVersion = (text: string): string | null =>
  /Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(text)?.[1] ?? null

/** The loaded driver; null where there is none, or none that says so. */
export const driver = (): string | null =>
  existsSync(driverFile) ? driverVersion(readFileSync(driverFile, "utf8")) : null

/** What stands between a plugin without a card and one with: the driver, where it is the driver. */
export const driverProblem = (version: string | null): string | null => {
  if (version === null)
    return `no NVIDIA driver is loaded (${driverFile} is not there); install version ${oldestDriver} or newer`
  return Number.parseInt(version, 10) < oldestDriver
    ? `the NVIDIA driver ${version} is too old: CUDA 13 needs ${oldestDriver} or newer`
    : null
}

/** What a task will take of its card, or why that is no share. */
const askedShare = (): number | string => {
  try {
    return memoryShare()
  } catch (error) {
    if (error instanceof PluginAbsent) return error.message
    throw error
  }
}

/** Looks for cards. Never rejects. */
export const findCards = async (): Promise<Cards | Missing> => {
  const located = locatePlugin(cudaPlugin)
  if ("missing" in located) return located
  const share = askedShare()
  if (typeof share === "string") return { missing: share }
  const found = await look<Cards>(import.meta.url, "cards")
  if (!("missing" in found)) return found
  const problem = driverProblem(driver())
  return problem === null ? found : { missing: `${problem}. ${found.missing}` }
}

/** Looking takes no memory from whoever computes there, and says what a task may have. */
const lookingOptions = (): Readonly<Record<string, OptionValue>> => ({
  preallocate: false,
  memory_fraction: memoryShare()
})

/** Why the plugin shows no card: somebody else has it, or it finds none. */
export const unopened = (error: PjrtFailure): string => {
  const { reason } = openFailure(cudaPlugin.provider, error)
  return reason._tag === "AdapterBusy" ? reason.message : `the plugin finds no card: ${error.message.split("\n")[0]}`
}

const here = async (): Promise<Cards | Missing> => {
  try {
    const client = await Client.open(openPlugin(locatePlugin(cudaPlugin)), lookingOptions())
    const cards = client.devices.map((device) => ({
      kind: client.kindOf(device),
      memory: client.memoryOf(device)?.limit ?? null
    }))
    return { cards }
  } catch (error) {
    if (error instanceof PjrtFailure) return { missing: unopened(error) }
    if (error instanceof PluginAbsent) return { missing: error.message }
    throw error
  }
}

if (import.meta.main) tellFound(await here())
