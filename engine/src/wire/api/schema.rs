//! The notation in which messages are declared, and what it expands to.
//!
//! A declaration is Kafka's message schema in Rust's clothes: the field's name in snake case,
//! its type, and in brackets the versions that have it.
//!
//! ```text
//! messages! {
//!     ListOffsets: ListOffsetsRequest -> ListOffsetsResponse, versions 1-11, flexible 6+;
//!
//!     struct ListOffsetsRequest {
//!         replica_id: i32 [1+] = -1,                        // "default": "-1"
//!         topics: Vec<ListOffsetsTopic> [1+],               // "type": "[]ListOffsetsTopic"
//!     }
//!     struct ListOffsetsTopic { .. }
//!     struct MetadataRequestTopic {
//!         name: Option<String> [0+ null 10+],               // "nullableVersions": "10+"
//!         config_error_code: i16 [5+ tag 0],                // "tag": 0, "taggedVersions": "5+"
//!     }
//! }
//! ```
//!
//! Versions are `3+`, `3-5` or `3`. The order of fields is the order on the wire. The structures
//! and their fields are public. A field that the version does not have is not written, and has
//! its default after reading. `None` in a version that has the field but knows no null is
//! written as the empty value.
//!
//! Must not know: what any message means.

/// Whether the first range in a field's brackets contains the version.
macro_rules! present {
    ($version:expr, $from:literal + $($rest:tt)*) => {
        $version >= $from
    };
    ($version:expr, $from:literal - $to:literal $($rest:tt)*) => {
        ($from..=$to).contains(&$version)
    };
    ($version:expr, $only:literal $($rest:tt)*) => {
        $version == $only
    };
}

/// Whether null may stand in the version, by the range after `null` in a field's brackets.
macro_rules! nullable {
    ($version:expr, null $($range:tt)*) => {
        $crate::wire::api::schema::present!($version, $($range)*)
    };
    ($version:expr, $skipped:tt $($rest:tt)*) => {
        $crate::wire::api::schema::nullable!($version, $($rest)*)
    };
    ($version:expr,) => {
        false
    };
}

/// The number after `tag` in a field's brackets.
macro_rules! tag {
    (tag $tag:literal) => {
        Some::<u32>($tag)
    };
    ($skipped:tt $($rest:tt)*) => {
        $crate::wire::api::schema::tag!($($rest)*)
    };
    () => {
        None::<u32>
    };
}

/// Whether a field's brackets contain the word `null`.
macro_rules! has_null {
    (null $($rest:tt)*) => {
        true
    };
    ($skipped:tt $($rest:tt)*) => {
        $crate::wire::api::schema::has_null!($($rest)*)
    };
    () => {
        false
    };
}

/// The first flexible version of an API: a number, or `none`.
macro_rules! flexible_from {
    (none) => {
        i16::MAX
    };
    ($from:literal) => {
        $from
    };
}

/// Declares the messages of one API and the structures in them; see the head of this file.
macro_rules! messages {
    (
        $api:ident: $request:ident -> $response:ident,
        versions $min:literal - $max:literal, flexible $flexible:tt $(+)?;
        $(
            $(#[$attribute:meta])*
            struct $name:ident {
                $(
                    $(#[$field_attribute:meta])*
                    $field:ident: $type:ty [ $($when:tt)+ ] $(= $default:expr)?
                ),* $(,)?
            }
        )*
    ) => {
        impl $crate::wire::api::Request for $request {
            const KEY: $crate::wire::api::ApiKey = $crate::wire::api::ApiKey::$api;
            type Response = $response;
        }
        $crate::wire::api::schema::messages! {
            @message $request $api $min $max ($crate::wire::api::schema::flexible_from!($flexible))
        }
        $crate::wire::api::schema::messages! {
            @message $response $api $min $max ($crate::wire::api::schema::flexible_from!($flexible))
        }
        $(
            $crate::wire::api::schema::structure! {
                $(#[$attribute])*
                struct $name {
                    $(
                        $(#[$field_attribute])*
                        $field: $type [ $($when)+ ] ($($default)?)
                    ),*
                }
            }
        )*
    };
    (@message $name:ident $api:ident $min:literal $max:literal ($flexible:expr)) => {
        impl $crate::wire::api::Message for $name {
            const VERSIONS: std::ops::RangeInclusive<i16> = $min..=$max;

            fn decode(
                r: &mut $crate::wire::codec::Reader<'_>,
                version: i16,
            ) -> Result<Self, $crate::wire::codec::DecodeError> {
                // The table of keys says the same.
                const {
                    let table = $crate::wire::api::ApiKey::$api;
                    assert!(*table.versions().start() == $min);
                    assert!(*table.versions().end() == $max);
                    assert!(table.flexible_from() == $flexible);
                }
                if !($min..=$max).contains(&version) {
                    return Err(r.fault($crate::wire::codec::Fault::UnsupportedVersion));
                }
                let form = $crate::wire::api::field::Form::new(version, version >= $flexible);
                $crate::wire::api::field::Field::read(r, form)
            }

            fn encode(&self, out: &mut Vec<u8>, version: i16) {
                assert!(
                    ($min..=$max).contains(&version),
                    "{} has no version {version}",
                    stringify!($name)
                );
                let form = $crate::wire::api::field::Form::new(version, version >= $flexible);
                $crate::wire::api::field::Field::write(self, out, form);
            }

            fn error_codes(&self, version: i16, visit: &mut dyn FnMut(i16)) {
                $crate::wire::api::field::Field::error_codes(self, "", version, visit);
            }

            fn set_throttle_time(&mut self, ms: i32) {
                $crate::wire::api::field::Field::set_throttle_time(self, "", ms);
            }
        }
    };
}

/// A field's default: the declared one, or its type's.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// One structure of a message: the type, its default, and its form on the wire.
macro_rules! structure {
    (
        $(#[$attribute:meta])*
        struct $name:ident {
            $(
                $(#[$field_attribute:meta])*
                $field:ident: $type:ty [ $($when:tt)+ ] ($($default:expr)?)
            ),*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $(
                $(#[$field_attribute])*
                pub $field: $type,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $crate::wire::api::schema::default_of!($($default)?),)*
                }
            }
        }

        #[allow(unused_imports, unused_mut, unused_variables, reason = "some have few fields")]
        const _: () = {
            use $crate::wire::api::field::{Field, Form, Nullable};
            use $crate::wire::api::schema::{has_null, nullable, present, tag};
            use $crate::wire::codec::{self, DecodeError, Fault, Reader};

            $(
                assert!(
                    <$type as Field>::NULLABLE == has_null!($($when)+),
                    "`Option` and `null` belong together"
                );
            )*
            /// Whether any field is a tagged one.
            const TAGGED: bool = false $(|| tag!($($when)+).is_some())*;

            impl Field for $name {
                fn bytes_min(form: Form) -> usize {
                    let version = form.version;
                    let mut bytes = usize::from(form.flexible);
                    $(
                        if tag!($($when)+).is_none() && present!(version, $($when)+) {
                            let form = form.with_null(nullable!(version, $($when)+));
                            bytes += <$type as Field>::bytes_min(form);
                        }
                    )*
                    bytes
                }

                fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
                    let version = form.version;
                    let mut value = Self::default();
                    $(
                        if tag!($($when)+).is_none() && present!(version, $($when)+) {
                            let form = form.with_null(nullable!(version, $($when)+));
                            value.$field = Field::read(r, form)
                                .map_err(|error| error.within(stringify!($field)))?;
                        }
                    )*
                    if !form.flexible {
                        return Ok(value);
                    }
                    r.tagged(|found, r| {
                        $(
                            if tag!($($when)+) == Some(found) && present!(version, $($when)+) {
                                let form = form.with_null(nullable!(version, $($when)+));
                                value.$field = Field::read(r, form)
                                    .map_err(|error| error.within(stringify!($field)))?;
                                return Ok(true);
                            }
                        )*
                        Ok(false)
                    })?;
                    Ok(value)
                }

                fn write(&self, out: &mut Vec<u8>, form: Form) {
                    let version = form.version;
                    $(
                        if tag!($($when)+).is_none() && present!(version, $($when)+) {
                            let form = form.with_null(nullable!(version, $($when)+));
                            self.$field.write(out, form);
                        }
                    )*
                    if form.flexible && TAGGED {
                        let default = Self::default();
                        let mut count = 0;
                        let mut fields = Vec::new();
                        $(
                            if let Some(tag) = tag!($($when)+)
                                && present!(version, $($when)+)
                                && self.$field != default.$field
                            {
                                let form = form.with_null(nullable!(version, $($when)+));
                                let mut data = Vec::new();
                                self.$field.write(&mut data, form);
                                codec::put_unsigned_varint(&mut fields, tag);
                                codec::put_unsigned_varint(&mut fields, data.len() as u32);
                                fields.append(&mut data);
                                count += 1;
                            }
                        )*
                        codec::put_unsigned_varint(out, count);
                        out.append(&mut fields);
                    } else if form.flexible {
                        codec::put_no_tagged(out);
                    }
                }

                fn error_codes(&self, _: &str, version: i16, visit: &mut dyn FnMut(i16)) {
                    $(
                        if present!(version, $($when)+) {
                            self.$field.error_codes(stringify!($field), version, visit);
                        }
                    )*
                }

                fn set_throttle_time(&mut self, _: &str, ms: i32) {
                    $(self.$field.set_throttle_time(stringify!($field), ms);)*
                }
            }

            impl Nullable for $name {
                fn null_bytes(_: Form) -> usize {
                    1
                }
                fn read_nullable(
                    r: &mut Reader<'_>,
                    form: Form,
                ) -> Result<Option<Self>, DecodeError> {
                    // A byte in front says whether the structure follows.
                    if r.i8()? < 0 { Ok(None) } else { Self::read(r, form).map(Some) }
                }
                fn write_nullable(value: Option<&Self>, out: &mut Vec<u8>, form: Form) {
                    match value {
                        None => codec::put_i8(out, -1),
                        Some(value) => {
                            codec::put_i8(out, 1);
                            value.write(out, form);
                        }
                    }
                }
            }

            impl $crate::wire::api::sample::Sample for $name {
                fn sample(
                    dice: &mut $crate::wire::api::sample::Dice<'_>,
                    form: Form,
                ) -> Self {
                    let version = form.version;
                    let mut value = Self::default();
                    $(
                        if present!(version, $($when)+) && !(TAGGED && dice.skips(tag!($($when)+))) {
                            let form = form.with_null(nullable!(version, $($when)+));
                            value.$field = $crate::wire::api::sample::Sample::sample(dice, form);
                        }
                    )*
                    value
                }
            }
        };
    };
}

pub(super) use {default_of, flexible_from, has_null, messages, nullable, present, structure, tag};
