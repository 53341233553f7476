/**
 * Looks for hardware in a process of its own: drivers that are broken abort, and whoever asks goes on. The module that
 * is started writes `found JSON` when it is the main one (`tellFound`).
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"

/** The sentence that says why nothing was found. */
export interface Missing {
  readonly missing: string
}

const timeoutMs = 60_000

/**
 * What a module found. Never rejects.
 * @param module its URL
 * @param what for the sentence, as `an adapter`
 */
export const look = <A>(module: string, what: string): Promise<A | Missing> =>
  new Promise((resolve) => {
    const file = fileURLToPath(module)
    const options = { timeout: timeoutMs, maxBuffer: 2 ** 24 }
    execFile(process.execPath, ["--disable-warning=ExperimentalWarning", file], options, (error, stdout) => {
      const said = /^found (.*)$/m.exec(stdout)?.[1]
      const found = said === undefined ? undefined : parsed<A>(said)
      if (found !== undefined) resolve(found)
      else resolve({ missing: `looking for ${what} failed: ${error?.message.split("\n")[0] ?? "no answer"}` })
    })
  })

const parsed = <A>(text: string): A | Missing | undefined => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Says what was found and ends the process, whatever threads a driver has left. */
export const tellFound = (found: unknown): void => {
  process.stdout.write(`found ${JSON.stringify(found)}\n`, () => process.exit(0))
}
