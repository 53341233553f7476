/** From a module's text to an executable: by the cache on disk, else by the plugin's compiler; counted, and what went wrong said. */
import type { Client } from "./Client.ts"
import { Executable, type Signature } from "./Executable.ts"
import { ExecutableCache } from "./ExecutableCache.ts"
import { Refused } from "./failure.ts"
import { PjrtFailure } from "./pjrt.ts"
import type { Written } from "./writer.ts"

export class Compiler {
  /** Programs that were compiled, and that were loaded from the cache instead. */
  readonly counts = { compiled: 0, reloaded: 0 }
  readonly #client: Client
  readonly #cache: ExecutableCache | undefined
  readonly #say: (note: string) => void

  /**
   * @param folder where executables are kept; null keeps none
   * @param identity tells plugins, cards, drivers and instruction sets apart
   * @param say is told of damaged entries and folders that cannot be written to
   */
  constructor(client: Client, folder: string | null, identity: string, say: (note: string) => void) {
    this.#client = client
    this.#cache = folder === null ? undefined : new ExecutableCache(folder, identity)
    this.#say = say
  }

  /** @param options as `compileOptions` gives them. Throws Refused where the text does not compile. */
  async compile(
    { labelOf, text }: Pick<Written, "labelOf" | "text">,
    signature: Signature,
    options: Uint8Array
  ): Promise<Executable> {
    const key = this.#cache?.key(text, options)
    const kept = key === undefined ? undefined : await this.#reload(key)
    if (kept !== undefined) return new Executable(this.#client, kept, signature)
    const compiled = await this.#client.compile(text, options).catch((error: unknown) => {
      throw error instanceof PjrtFailure ? new Refused(error, text, labelOf) : error
    })
    const executable = new Executable(this.#client, compiled, signature)
    this.counts.compiled++
    if (this.#cache !== undefined && key !== undefined) {
      const problem = this.#cache.keep(key, executable.serialize())
      if (problem !== undefined) this.#say(problem)
    }
    return executable
  }

  async #reload(key: string): Promise<bigint | undefined> {
    const found = this.#cache?.find(key)
    if (found === undefined) return undefined
    if ("damaged" in found) {
      this.#say(`${found.damaged}; the program is compiled again`)
      this.#cache?.drop(key)
      return undefined
    }
    try {
      const pointer = await this.#client.deserialize(found.bytes)
      this.counts.reloaded++
      return pointer
    } catch (error) {
      if (!(error instanceof PjrtFailure)) throw error
      this.#say(`a kept program is refused (${error.message.split("\n")[0]}); it is compiled again`)
      this.#cache?.drop(key)
      return undefined
    }
  }
}
