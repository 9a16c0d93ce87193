import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { UnavailableError } from '../dataset/errors.ts';
import { type Health, healthLines } from './health.ts';
import type { Metrics } from './metrics.ts';

/** What a page is asked for, by its path. */
export interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

/** Pages for who looks after the node, without a body to send: GET and HEAD. */
export type Pages = Readonly<Record<string, (request: IncomingMessage) => Promise<Page>>>;

export interface PagesParts {
  readonly health: () => Promise<Health>;
  /** Of what only a new daemon mends. */
  readonly life: () => Promise<Health>;
  readonly metrics: Pick<Metrics, 'text' | 'contentType'>;
}

/**
 * `/healthz`: what is wrong, a line each, with 503 where anything is; `/livez`: 503 only where a new daemon would be better off;
 * `/metrics`: for Prometheus.
 */
export function nodePages({ health, life, metrics }: PagesParts): Pages {
  return {
    '/healthz': async (request) => healthPage(await health(), request),
    '/livez': async (request) => healthPage(await life(), request),
    '/metrics': async () => ({ status: 200, type: metrics.contentType, body: await metrics.text() }),
  };
}

function healthPage(health: Health, { headers }: IncomingMessage): Page {
  const status = health.ok ? 200 : 503;
  if (headers.accept?.includes('application/json')) {
    return { status, type: 'application/json', body: `${JSON.stringify(health)}\n` };
  }
  return { status, type: 'text/plain; charset=utf-8', body: `${healthLines(health).join('\n')}\n` };
}

/** Answers with a page. False where there is none of that path. */
export async function answerPage(pages: Pages, request: IncomingMessage, response: ServerResponse): Promise<boolean> {
  const path = request.url?.replace(/\?.*$/, '') ?? '';
  if ((request.method !== 'GET' && request.method !== 'HEAD') || !Object.hasOwn(pages, path)) return false;
  let page: Page;
  try {
    page = await pages[path]!(request);
  } catch (error) {
    page = {
      status: 500,
      type: 'text/plain; charset=utf-8',
      body: `${error instanceof Error ? error.message : error}\n`,
    };
  }
  response.writeHead(page.status, { 'content-type': page.type });
  response.end(request.method === 'HEAD' ? undefined : page.body);
  return true;
}

/** Where pages are served to other machines. */
export interface PagesAddress {
  /** All addresses of the machine, where none is named. */
  readonly host?: string;
  readonly port: number;
}

export interface PagesServer extends AsyncDisposable {
  /** The one that was given, or the one that was free where that was 0. */
  readonly port: number;
}

/** @throws UnavailableError where the address cannot be listened on */
export async function servePages(pages: Pages, { host, port }: PagesAddress): Promise<PagesServer> {
  const server = createServer(async (request, response) => {
    if (await answerPage(pages, request, response)) return;
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(`there are ${Object.keys(pages).join(', ')}\n`);
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (cause) {
    const at = `${host ?? ''}:${port}`;
    const why = (cause as NodeJS.ErrnoException).code ?? String(cause);
    throw new UnavailableError(`LARDER_METRICS: cannot listen on ${at} (${why}): choose another address`, {
      cause,
      facts: { address: at },
    });
  }
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
