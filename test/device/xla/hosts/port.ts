/** Ports for tests of hosts, which must know theirs before anybody listens there. */
import { randomInt } from "node:crypto"
import { createServer } from "node:net"

/** A free port of this machine, below those that systems give away by themselves: nobody takes it before its test does. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = randomInt(20_000, 30_000)
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer()
      server.once("error", () => resolve(false))
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)))
    })
    if (free) return port
  }
}
