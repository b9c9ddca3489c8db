// The official OFREP web provider under the OpenFeature web SDK, for test_flags.py.
// Arguments: base URL, key. Prints what the SDK saw, step by step, and the status of each request.
import { OpenFeature } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

const [baseUrl, key] = process.argv.slice(2);
const requests = [];
const fetchImplementation = async (input, init) => {
  const request = new Request(input, init);
  const response = await fetch(request);
  requests.push([response.status, request.headers.has('if-none-match')]);
  return response;
};
const provider = new OFREPWebProvider({ baseUrl, fetchImplementation, pollInterval: 0, headers: [['Authorization', `Bearer ${key}`]] });
const client = OpenFeature.getClient();
const seen = [];
const look = () => seen.push([client.getBooleanValue('ai.web.plan', false), client.getNumberDetails('ai.web.heat', 0)]);

await OpenFeature.setContext({ targetingKey: 'ana', plan: 'free' });
await OpenFeature.setProviderAndWait(provider);
look();
// The provider keeps its tag when only an attribute changes.
await OpenFeature.setContext({ targetingKey: 'ana', plan: 'pro' });
look();
await OpenFeature.setContext({ targetingKey: 'ana', plan: 'pro' });
look();
await OpenFeature.setContext({ targetingKey: 'ben', plan: 'free' });
look();
const missing = client.getBooleanDetails('ai.web.nothing', true);
console.log(JSON.stringify({ requests, seen, missing }));
await OpenFeature.close();
