/** A wheel from the index to a folder: continued where it broke off, and worth nothing until its SHA-256 is right. */
import { createHash } from "node:crypto"
import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import type { Wheel } from "../plugins.ts"
import { get, shown } from "./http.ts"
import { InstallFailed } from "./InstallFailed.ts"
import { locateWheel } from "./packageIndex.ts"

const tries = 3

export const sha256Of = async (file: string): Promise<string> => {
  const hash = createHash("sha256")
  await pipeline(createReadStream(file), hash)
  return hash.digest("hex")
}

/** Reads on from where the part file ends. */
const continued = async (url: URL, part: string): Promise<void> => {
  const had = existsSync(part) ? statSync(part).size : 0
  const { response } = await get(url, had > 0 ? { range: `bytes=${had}-` } : {})
  const { statusCode } = response
  // nothing is left to send: the digest will say whether it was the right thing
  if (statusCode === 416 && had > 0) {
    response.resume()
    return
  }
  if (statusCode !== 200 && statusCode !== 206) {
    response.resume()
    throw new InstallFailed(`${shown(url)} answers ${statusCode}`)
  }
  try {
    await pipeline(response, createWriteStream(part, { flags: statusCode === 206 ? "a" : "w" }))
  } catch (error) {
    throw new InstallFailed(`${shown(url)} broke off: ${error instanceof Error ? error.message : error}`)
  }
}

/**
 * The path of a verified wheel in `folder`. Rejects with InstallFailed after three tries; what had come by then is kept
 * for the next call.
 */
export const download = async (wheel: Wheel, folder: string, say: (line: string) => void): Promise<string> => {
  mkdirSync(folder, { recursive: true })
  const [done, part] = [join(folder, wheel.file), join(folder, `${wheel.file}.part`)]
  if (existsSync(done)) {
    if ((await sha256Of(done)) === wheel.sha256) return done
    say(`${wheel.file} is damaged; it is fetched again`)
    rmSync(done)
  }
  const url = await locateWheel(wheel)
  let problem: InstallFailed | undefined
  for (let i = 0; i < tries; i++) {
    try {
      await continued(url, part)
    } catch (error) {
      if (!(error instanceof InstallFailed)) throw error
      problem = error
      continue
    }
    if ((await sha256Of(part)) === wheel.sha256) {
      renameSync(part, done)
      return done
    }
    rmSync(part)
    problem = new InstallFailed(
      `${wheel.file} from ${shown(url)} has another SHA-256 than the pinned ${wheel.sha256}: it is not used`
    )
  }
  throw problem
}
