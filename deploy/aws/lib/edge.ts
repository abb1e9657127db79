// What clients reach: CloudFront before the cluster's load balancer, and a limit of requests per address.
import { Duration, Stack, type StackProps } from 'aws-cdk-lib'
import { Certificate } from 'aws-cdk-lib/aws-certificatemanager'
import {
  AllowedMethods, CacheCookieBehavior, CacheHeaderBehavior, CachePolicy, CacheQueryStringBehavior, Distribution, HttpVersion,
  OriginProtocolPolicy, OriginRequestPolicy, PriceClass, SecurityPolicyProtocol, ViewerProtocolPolicy,
} from 'aws-cdk-lib/aws-cloudfront'
import { HttpOrigin } from 'aws-cdk-lib/aws-cloudfront-origins'
import { CfnWebACL } from 'aws-cdk-lib/aws-wafv2'
import { type Construct } from 'constructs'

interface EdgeProps extends StackProps {
  site: string
  certificateArn: string
  /** Name of the Gateway's load balancer. */
  origin: string
}

export class Edge extends Stack {
  constructor(scope: Construct, id: string, props: EdgeProps) {
    super(scope, id, props)
    const limits = new CfnWebACL(this, 'Limits', {
      scope: 'CLOUDFRONT',
      defaultAction: { allow: {} },
      visibilityConfig: { cloudWatchMetricsEnabled: true, metricName: 'almanac', sampledRequestsEnabled: true },
      rules: [
        {
          name: 'per-address',
          priority: 1,
          action: { block: {} },
          statement: { rateBasedStatement: { aggregateKeyType: 'IP', limit: 100_000 } },
          visibilityConfig: { cloudWatchMetricsEnabled: true, metricName: 'per-address', sampledRequestsEnabled: true },
        },
      ],
    })
    // Answers say themselves how long they may be kept (docs/caching.md); nothing is kept that does not.
    const cache = new CachePolicy(this, 'AsAnswersSay', {
      minTtl: Duration.seconds(0),
      defaultTtl: Duration.seconds(0),
      maxTtl: Duration.days(365),
      headerBehavior: CacheHeaderBehavior.allowList('Authorization', 'Consistency-Token', 'Accept'),
      queryStringBehavior: CacheQueryStringBehavior.all(),
      cookieBehavior: CacheCookieBehavior.none(),
      enableAcceptEncodingGzip: true,
      enableAcceptEncodingBrotli: true,
    })
    const origin = new HttpOrigin(props.origin, {
      protocolPolicy: OriginProtocolPolicy.HTTPS_ONLY,
      readTimeout: Duration.seconds(60),
      keepaliveTimeout: Duration.seconds(60),
    })
    new Distribution(this, 'Site', {
      domainNames: [props.site],
      certificate: Certificate.fromCertificateArn(this, 'Certificate', props.certificateArn),
      minimumProtocolVersion: SecurityPolicyProtocol.TLS_V1_2_2021,
      httpVersion: HttpVersion.HTTP2_AND_3,
      priceClass: PriceClass.PRICE_CLASS_100,
      webAclId: limits.attrArn,
      defaultBehavior: {
        origin,
        allowedMethods: AllowedMethods.ALLOW_ALL,
        cachePolicy: cache,
        originRequestPolicy: OriginRequestPolicy.ALL_VIEWER_EXCEPT_HOST_HEADER,
        viewerProtocolPolicy: ViewerProtocolPolicy.REDIRECT_TO_HTTPS,
      },
    })
  }
}
