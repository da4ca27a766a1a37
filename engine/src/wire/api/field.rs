//! The types that a message's fields can have, and their form on the wire.
//!
//! Keeps: an array's count is checked against the bytes that its elements need at least.
//!
//! Must not know: any message.

use crate::id::TopicId;
use crate::wire::codec::{self, DecodeError, Fault, Reader};

/// How a value is to be encoded: the message's version, whether that is a flexible one, and
/// whether null may stand here.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub(super) version: i16,
    pub(super) flexible: bool,
    pub(super) nullable: bool,
}

impl Form {
    /// The form of a message's top level.
    pub(super) fn new(version: i16, flexible: bool) -> Form {
        Form { version, flexible, nullable: false }
    }

    /// The same form for a field where null may or may not stand.
    pub(super) fn with_null(self, nullable: bool) -> Form {
        Form { nullable, ..self }
    }
}

/// A type that fields can have.
pub trait Field: Sized {
    /// Whether the type has a value for null.
    const NULLABLE: bool = false;
    /// The fewest bytes that a value takes.
    fn bytes_min(form: Form) -> usize;
    fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Vec<u8>, form: Form);
    /// Shows `visit` every error code in the value of the field `name`.
    fn error_codes(&self, _name: &str, _version: i16, _visit: &mut dyn FnMut(i16)) {}
    /// Takes the time for which the client is throttled, if the field `name` is the one for it.
    fn set_throttle_time(&mut self, _name: &str, _ms: i32) {}
}

/// Whether fields of this name hold error codes.
fn names_error_code(name: &str) -> bool {
    name.ends_with("error_code")
}

/// A type for which null can stand on the wire; `Option` of it is a [`Field`].
pub trait Nullable: Field + Default {
    /// The bytes of null.
    fn null_bytes(form: Form) -> usize;
    fn read_nullable(r: &mut Reader<'_>, form: Form) -> Result<Option<Self>, DecodeError>;
    fn write_nullable(value: Option<&Self>, out: &mut Vec<u8>, form: Form);
}

macro_rules! fixed_fields {
    ($($type:ty: $bytes:literal $read:ident $write:ident,)*) => {$(
        impl Field for $type {
            fn bytes_min(_: Form) -> usize {
                $bytes
            }
            fn read(r: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
                r.$read()
            }
            fn write(&self, out: &mut Vec<u8>, _: Form) {
                codec::$write(out, *self);
            }
        }
    )*};
}

fixed_fields! {
    bool: 1 bool put_bool,
    i8: 1 i8 put_i8,
    u16: 2 u16 put_u16,
    i64: 8 i64 put_i64,
    f64: 8 f64 put_f64,
    TopicId: 16 topic_id put_topic_id,
}

impl Field for i32 {
    fn bytes_min(_: Form) -> usize {
        4
    }
    fn read(r: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
        r.i32()
    }
    fn write(&self, out: &mut Vec<u8>, _: Form) {
        codec::put_i32(out, *self);
    }
    fn set_throttle_time(&mut self, name: &str, ms: i32) {
        if name == "throttle_time_ms" {
            *self = ms;
        }
    }
}

impl Field for i16 {
    fn bytes_min(_: Form) -> usize {
        2
    }
    fn read(r: &mut Reader<'_>, _: Form) -> Result<Self, DecodeError> {
        r.i16()
    }
    fn write(&self, out: &mut Vec<u8>, _: Form) {
        codec::put_i16(out, *self);
    }
    fn error_codes(&self, name: &str, _: i16, visit: &mut dyn FnMut(i16)) {
        if names_error_code(name) {
            visit(*self);
        }
    }
}

impl Field for String {
    fn bytes_min(form: Form) -> usize {
        if form.flexible { 1 } else { 2 }
    }
    fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
        r.string(form.flexible).map(str::to_owned)
    }
    fn write(&self, out: &mut Vec<u8>, form: Form) {
        codec::put_string(out, form.flexible, self);
    }
}

impl Nullable for String {
    fn null_bytes(form: Form) -> usize {
        Self::bytes_min(form)
    }
    fn read_nullable(r: &mut Reader<'_>, form: Form) -> Result<Option<Self>, DecodeError> {
        Ok(r.nullable_string(form.flexible)?.map(str::to_owned))
    }
    fn write_nullable(value: Option<&Self>, out: &mut Vec<u8>, form: Form) {
        codec::put_nullable_string(out, form.flexible, value.map(String::as_str));
    }
}

/// Bytes. (`u8` itself is no field type, so this is not an array.)
impl Field for Vec<u8> {
    fn bytes_min(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }
    fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
        r.bytes(form.flexible).map(<[u8]>::to_vec)
    }
    fn write(&self, out: &mut Vec<u8>, form: Form) {
        codec::put_bytes(out, form.flexible, self);
    }
}

impl Nullable for Vec<u8> {
    fn null_bytes(form: Form) -> usize {
        Self::bytes_min(form)
    }
    fn read_nullable(r: &mut Reader<'_>, form: Form) -> Result<Option<Self>, DecodeError> {
        Ok(r.nullable_bytes(form.flexible)?.map(<[u8]>::to_vec))
    }
    fn write_nullable(value: Option<&Self>, out: &mut Vec<u8>, form: Form) {
        codec::put_nullable_bytes(out, form.flexible, value.map(Vec::as_slice));
    }
}

impl<T: Field> Field for Vec<T> {
    fn bytes_min(form: Form) -> usize {
        if form.flexible { 1 } else { 4 }
    }
    fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
        let null = r.fault(Fault::UnexpectedNull);
        Self::read_nullable(r, form)?.ok_or(null)
    }
    fn write(&self, out: &mut Vec<u8>, form: Form) {
        Self::write_nullable(Some(self), out, form);
    }
    fn error_codes(&self, name: &str, version: i16, visit: &mut dyn FnMut(i16)) {
        for element in self {
            element.error_codes(name, version, visit);
        }
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn null_bytes(form: Form) -> usize {
        Self::bytes_min(form)
    }
    fn read_nullable(r: &mut Reader<'_>, form: Form) -> Result<Option<Self>, DecodeError> {
        let form = form.with_null(false);
        let Some(count) = r.nullable_array::<T>(form.flexible, T::bytes_min(form))? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(r, form)?);
        }
        Ok(Some(elements))
    }
    fn write_nullable(value: Option<&Self>, out: &mut Vec<u8>, form: Form) {
        let Some(elements) = value else { return codec::put_null_array(out, form.flexible) };
        codec::put_array(out, form.flexible, elements.len());
        for element in elements {
            element.write(out, form.with_null(false));
        }
    }
}

impl<T: Nullable> Field for Option<T> {
    const NULLABLE: bool = true;
    fn bytes_min(form: Form) -> usize {
        if form.nullable { T::null_bytes(form) } else { T::bytes_min(form) }
    }
    fn read(r: &mut Reader<'_>, form: Form) -> Result<Self, DecodeError> {
        if form.nullable { T::read_nullable(r, form) } else { T::read(r, form).map(Some) }
    }
    fn write(&self, out: &mut Vec<u8>, form: Form) {
        match self {
            value if form.nullable => T::write_nullable(value.as_ref(), out, form),
            Some(value) => value.write(out, form),
            None => T::default().write(out, form),
        }
    }
    fn error_codes(&self, name: &str, version: i16, visit: &mut dyn FnMut(i16)) {
        if let Some(value) = self {
            value.error_codes(name, version, visit);
        }
    }
}
