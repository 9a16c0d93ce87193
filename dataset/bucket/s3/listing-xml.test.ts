import { expect, test } from 'vitest';
import { parseListing } from './listing-xml.ts';

const PAGE = `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>true</IsTruncated>
<Contents><Key>a&amp;b&lt;&#x41;&#66;&quot;</Key><LastModified>2025-01-02T03:04:05.678Z</LastModified><ETag>&#34;e-2&quot;</ETag><Size>5</Size><Owner><ID>me</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>
<Contents><Size>0</Size><Key>b</Key><ETag/></Contents>
<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes><EncodingType>url</EncodingType><NextContinuationToken>t&amp;</NextContinuationToken></ListBucketResult>
`;

test('a page of a listing gives its objects and what is beside them', () => {
  const { items, fields } = parseListing(PAGE, 'ListBucketResult', 'Contents')!;
  expect(items).toEqual([
    {
      Key: 'a&b<AB"',
      LastModified: '2025-01-02T03:04:05.678Z',
      ETag: '"e-2"',
      Size: '5',
      ID: 'me',
      StorageClass: 'STANDARD',
    },
    { Key: 'b', Size: '0' },
  ]);
  expect(fields).toMatchObject({ IsTruncated: 'true', NextContinuationToken: 't&', EncodingType: 'url' });
});

test('a part of a page, or another text, is none', () => {
  for (let end = 0; end < PAGE.trimEnd().length; end += 7)
    expect(parseListing(PAGE.slice(0, end), 'ListBucketResult', 'Contents')).toBeUndefined();
  expect(parseListing(PAGE, 'ListVersionsResult', 'Version')).toBeUndefined();
  expect(parseListing('<Error><Code>X</Code></Error>', 'ListBucketResult', 'Contents')).toBeUndefined();
});

test('an empty page is one', () => {
  expect(parseListing('<ListBucketResult></ListBucketResult>', 'ListBucketResult', 'Contents')!.items).toEqual([]);
});
